"""Whose a run folder is: the same run's, or one's that adds seeds or agents; by settings and by what files hold."""

import json
import re

import numpy as np
import pytest
import yaml
from interrupts import stop_after
from paid_runs import asked, labels, paid_run, results
from worlds import tiny_policy

from duelenv import UserError
from duelenv.experiments.config.identity import open_run
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.report.page import write_report
from duelenv.experiments.running.runner import Interrupted, run

FEATURES = {
    "name": "features",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 6},
    "agents": ["passive", "thompson"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
}


def made(**changes):
    return RunConfig.from_dict({**FEATURES, **changes})


# Contents ------------------------------------------------------------------------------------------------------------


def other_data(folder, config):
    path = folder / "pool.jsonl"
    path.write_text(path.read_text().replace('"score": 3', '"score": 9'))
    return "data.path"


def other_module(folder, config):
    path = folder / "paid_parts.py"
    path.write_text(path.read_text().replace("0.8", "0.9"))
    return "modules"


@pytest.mark.parametrize("change", [other_data, other_module])
def test_other_contents_under_the_same_name_are_refused(tmp_path, change):
    config = paid_run(tmp_path)
    run(config, tmp_path / "run")
    before = asked(tmp_path)
    key = change(tmp_path, config)
    with pytest.raises(UserError, match=rf"'{key}' holds something else .*SHA-256 \w{{12}} there and \w{{12}} here"):
        run(paid_run(tmp_path), tmp_path / "run")
    assert asked(tmp_path) == before


@pytest.mark.parametrize("setting", ["matrix", "features"])
def test_arrays_are_known_by_what_they_hold(tmp_path, setting):
    path = tmp_path / "array.npy"
    if setting == "matrix":
        matrix = np.array([[0.5, 0.8], [0.2, 0.5]])
        np.save(path, matrix)
        config = made(env={"id": "MatrixDuel", "matrix": str(path), "horizon": 6})
        other = matrix.T
    else:
        table = np.random.default_rng(0).normal(size=(32, 3))
        np.save(path, table)
        config = paid_run(tmp_path, env={"id": "PoolDuel", "horizon": 6, "features": str(path)})
        other = -table
    run(config, tmp_path / "run")
    np.save(path, other)
    with pytest.raises(UserError, match=f"'env.{setting}' holds something else"):
        run(config, tmp_path / "run")


def test_a_folder_is_known_by_all_of_its_files(tmp_path):
    model = tmp_path / "model"
    policy = tiny_policy()
    policy.model.save_pretrained(model)
    policy.tokenizer.save_pretrained(model)
    raw = {
        "name": "aligned",
        "env": {"id": "AlignmentDuel", "num_envs": 2, "horizon": 1, "num_candidates": 2},
        "policy": {"path": str(model), "max_new_tokens": 3},
        "prompts": {"toy": {"train": 4, "test": 2}},
        "oracle": "length",
        "agents": ["passive"],
        "jobs": 1,
    }
    config = RunConfig.from_dict(raw)
    run(config, tmp_path / "run")
    (model / "generation_config.json").write_text('{"temperature": 0.5}')
    with pytest.raises(UserError, match=r"'policy\.path\.path' holds something else"):
        run(config, tmp_path / "run")


def test_the_same_contents_elsewhere_are_the_same(tmp_path):
    config = paid_run(tmp_path / "here")
    run(config, tmp_path / "run")
    before = asked(tmp_path / "here")
    there = paid_run(tmp_path / "there", oracle={"name": "paid", "folder": str(tmp_path / "here")})
    run(there, tmp_path / "run")
    assert asked(tmp_path / "here") == before
    assert open_run(tmp_path / "run").data["path"] == str(tmp_path / "there" / "pool.jsonl")


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"evaluate_every": 2}, "'evaluate_every' is 3 there and 2 here"),
        ({"env": {**FEATURES["env"], "dim": 4}}, "'env.dim' is 3 there and 4 here"),
        ({"env": {**FEATURES["env"], "link": "logistic"}}, "'env.link' is 'unset' there and 'logistic' here"),
        ({"agents": ["passive"]}, "the agent 'thompson' is there and not here"),
        (
            {"agents": {"passive": {}, "thompson": {"estimator": "laplace"}}},
            "'agents[thompson].estimator' is 'unset' there and 'laplace' here",
        ),
        ({"seeds": 1}, "'seeds' is [0, 1] there and [0] here"),
        ({"seeds": 3, "first_seed": 1}, "'seeds' is [0, 1] there and [1, 2, 3] here"),
        ({"label_log": True}, "'label_log' is None there and True here"),
        ({"budget": 4}, "'budget.labels' is None there and 4 here"),
    ],
)
def test_what_matters_is_refused_with_both_values(tmp_path, changes, named):
    run(made(), tmp_path)
    with pytest.raises(UserError, match=re.escape(named)) as caught:
        run(made(**changes), tmp_path)
    assert "\n" not in str(caught.value)


def test_what_does_not_matter_may_change(tmp_path, monkeypatch):
    run(made(), tmp_path)
    stop_after(monkeypatch, 0)
    run(made(jobs=2, checkpoint_seconds=1, baseline="thompson", metric="regret"), tmp_path)
    config = open_run(tmp_path)
    assert (config.jobs, config.baseline, config.metric) == (2, "thompson", "regret")


# Extending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_agents_are_added_to_a_run(tmp_path, monkeypatch, stopped):
    run(made(agents=["passive", "thompson", "random"]), tmp_path / "whole")
    if stopped:
        with monkeypatch.context() as patched:
            stop_after(patched, 4)
            with pytest.raises(Interrupted):
                run(made(), tmp_path / "run")
    else:
        run(made(), tmp_path / "run")
    run(made(agents=["passive", "thompson", "random"]), tmp_path / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole"))


def test_seeds_are_added_and_nothing_is_asked_twice(tmp_path):
    run(paid_run(tmp_path / "a", seeds=4), tmp_path / "a" / "run")
    for seeds in (1, 2, 4):
        run(paid_run(tmp_path / "b", seeds=seeds), tmp_path / "b" / "run")
    assert results(tmp_path / "b" / "run").equals(results(tmp_path / "a" / "run"))
    assert labels(tmp_path / "b" / "run").equals(labels(tmp_path / "a" / "run"))
    assert asked(tmp_path / "b") == asked(tmp_path / "a")


# Lost and damaged ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["run.json", "config.yaml", "environment.json", "run.lock"])
@pytest.mark.parametrize("how", ["deleted", "emptied", "changed"])
def test_a_run_goes_on_without_its_papers(tmp_path, monkeypatch, lost, how):
    run(made(), tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, 8)
        with pytest.raises(Interrupted):
            run(made(), tmp_path / "run")
    path = tmp_path / "run" / lost
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "emptied" else path.read_bytes().replace(b"6", b"7").replace(b'"', b"'"))
    run(made(), tmp_path / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["env"]["horizon"] == 6


def test_without_papers_the_cells_say_whose_they_are(tmp_path):
    run(made(), tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"run\.json' is missing or damaged") as caught:
        run(made(evaluate_every=2), tmp_path)
    assert "\n" not in str(caught.value)
    run(made(), tmp_path)


def test_killed_before_it_said_whose_it_is(tmp_path):
    run(made(), tmp_path / "whole")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(made().to_dict()))
    run(made(), tmp_path / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole"))


def test_killed_while_it_wrote_whose_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").touch()
    (tmp_path / "run" / ".run.json.123.tmp").write_text('{"form"')
    run(made(), tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_refused_process_has_written_nothing(tmp_path):
    run(made(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError):
        run(made(evaluate_every=2), tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert after == {path: content for path, content in before.items() if path.name != "run.lock"}


def test_a_folder_of_version_0_1_is_refused_and_reported(tmp_path):
    run(made(), tmp_path)
    for path in tmp_path.rglob("*.json"):
        if path.name in ("done.json", "cell.json"):
            path.unlink()
    (tmp_path / "run.json").write_text(json.dumps({"identity": "ab" * 32, "name": "features"}))
    with pytest.raises(UserError, match=r"written by version 0\.1"):
        run(made(), tmp_path)
    assert write_report(tmp_path).stat().st_size > 10_000


def test_what_it_ran_on_is_written_down_at_each_start(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["duelenv", "run", "my config.yaml"])
    run(made(), tmp_path)
    run(made(agents=["passive", "thompson", "random"]), tmp_path)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["command"] == "duelenv run 'my config.yaml'"
    assert {"commit", "dirty", "processor", "versions"} <= set(found)
    assert [start["versions"] for start in found["earlier"]] == [found["versions"]]
