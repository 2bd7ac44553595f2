"""Runs: what they write, that they continue exactly, and what they refuse."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from interrupts import stop_after

from duelenv import UserError
from duelenv.experiments.config.identity import open_run
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.assembling import assemble
from duelenv.experiments.running import play
from duelenv.experiments.running.runner import Interrupted, run

PARTS = str(Path(__file__).with_name("run_parts.py"))

FEATURES = {
    "name": "features",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 9, "batch": 2},
    "agents": ["passive", "thompson"],
    "seeds": 3,
    "first_seed": 5,
    "evaluate_every": 4,
    "jobs": 1,
    "label_log": True,
    "checkpoint_seconds": 0,
}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A random causal language model of the toy vocabulary, as transformers writes it."""
    from duelenv.policies import tiny_model

    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_model("gpt_neox", seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def alignment(model_path, oracle, **changes):
    return {
        "name": "alignment",
        "env": {"id": "AlignmentDuel", "num_envs": 3, "horizon": 4, "sources": {"policy": 3, "reference": 2}},
        "policy": {"path": str(model_path), "max_new_tokens": 6},
        "prompts": {"toy": {"train": 8, "test": 3}},
        "oracle": oracle,
        "agents": {
            "passive": {},
            "passive_2x": {"name": "passive", "gradient_steps": 2},
            "thompson": {},
            "selm": {},
            "real": {},
        },
        "seeds": 1,
        "evaluate_every": 2,
        "jobs": 1,
        "modules": [PARTS],
        "checkpoint_seconds": 0,
        **changes,
    }


def made(raw, **changes):
    return RunConfig.from_dict({**raw, **changes})


def results(directory):
    table = pq.read_table(directory / "results.parquet")
    assert "seconds" in table.column_names
    return table.drop_columns(["seconds"])


def test_a_replicated_run_has_a_row_per_agent_seed_and_evaluation(tmp_path):
    config = made(FEATURES)
    target = run(config, tmp_path / "run")
    rows = pq.read_table(target).to_pylist()
    assert [row["step"] for row in rows if row["agent"] == "passive" and row["seed"] == 6] == [0, 4, 8, 9]
    assert {row["seed"] for row in rows} == {5, 6, 7}
    assert len(rows) == 2 * 3 * 4
    last = [row for row in rows if row["step"] == 9]
    assert all(row["queries"] == 18 and row["gradient_steps"] == 0 for row in last)
    assert {"simple_regret", "win_rate_best_of_n", "regret_average", "regret_utility", "seconds"} <= set(last[0])
    # The agents meet the same truths: before any label, their recommendations are judged alike.
    first = [row for row in rows if row["step"] == 0]
    regrets = [[row["simple_regret"] for row in first if row["agent"] == agent] for agent in ("passive", "thompson")]
    assert regrets[0] == regrets[1]
    labels = pq.read_table(tmp_path / "run" / "labels.parquet").to_pylist()
    assert len(labels) == 2 * 9 * 6
    assert {row["source"] for row in labels} == {"oracle"}
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["numpy"] == np.__version__


def test_cumulative_regret_is_the_sum_over_the_replicates_duels(tmp_path):
    import gymnasium

    from duelenv import agents

    run(made(FEATURES, evaluate_every=1, agents=["passive"]), tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=6, batch=2, num_candidates=4, dim=3, horizon=9)
    agent = agents.make("passive", env, seed=5)
    observation, _ = env.reset(seed=5)
    total = np.zeros(3)
    for step in range(1, 10):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
        total += info["regret"]["utility"].reshape(3, 2).sum(axis=1)
        written = [row["regret_utility"] for row in rows if row["step"] == step]
        assert written == pytest.approx(total.tolist(), rel=1e-12)


@pytest.mark.parametrize("rounds", [0, 4, 10])
def test_an_interrupted_replicated_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch, rounds):
    config = made(FEATURES)
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, rounds)
        with pytest.raises(Interrupted, match=f"{rounds // 9} of 2 cells"):
            run(config, tmp_path / "stopped")
    run(config, tmp_path / "stopped")
    assert results(tmp_path / "stopped").equals(results(tmp_path / "whole"))
    same = [pq.read_table(tmp_path / name / "labels.parquet") for name in ("stopped", "whole")]
    assert same[0].equals(same[1])


@pytest.mark.parametrize(("checkpoint_seconds", "stop"), [(0, 2), (1e9, 3), (0, 9)])
def test_an_interrupted_policy_run_ends_alike_and_asks_for_no_label_twice(
    tmp_path, model_path, checkpoint_seconds, stop
):
    # The stop comes inside a round, in the oracle; with rare checkpoints, whole rounds are played again.
    finished = {}
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        raw = alignment(model_path, {"name": "counting", "folder": str(folder)}, checkpoint_seconds=checkpoint_seconds)
        config = made(raw, agents=["passive", "thompson"])
        if name == "stopped":
            (folder / "stop_at").write_text(str(stop))
            with pytest.raises(Interrupted):
                run(config, folder / "run")
        run(config, folder / "run")
        asked = [int(line.split()[1]) for line in (folder / "asked.txt").read_text().splitlines()]
        finished[name] = (results(folder / "run"), asked, pq.read_table(folder / "run" / "labels.parquet"))
        last = [row for row in finished[name][0].to_pylist() if row["step"] == 4]
        assert sum(row["queries"] for row in last) == 2 * 3 * 4
        # Evaluation asks too, and says so; this once stood nowhere.
        assert sum(row["queries"] + row["evaluation_queries"] for row in last) == sum(asked)
    assert finished["stopped"][0].equals(finished["whole"][0])
    assert finished["stopped"][1] == finished["whole"][1]
    assert finished["stopped"][2].equals(finished["whole"][2])


@pytest.fixture(scope="module")
def whole_policy_run(tmp_path_factory, model_path):
    """Config and results of a run of every agent that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    config = made(alignment(model_path, {"name": "rare_word"}))
    run(config, folder)
    return config, results(folder)


@pytest.mark.parametrize("rounds", [10, 15, 18])  # in the middle of thompson, selm and real
def test_every_agent_continues_exactly(tmp_path, monkeypatch, rounds, whole_policy_run):
    config, whole = whole_policy_run
    with monkeypatch.context() as patched:
        stop_after(patched, rounds)
        with pytest.raises(Interrupted):
            run(config, tmp_path)
    run(config, tmp_path)
    assert results(tmp_path).equals(whole)


@pytest.mark.parametrize(("temperature", "share"), [(1e-6, 1.0), (1.0, 0.0)])
def test_the_share_of_prompts_whose_candidates_are_all_alike_is_a_column(tmp_path, model_path, temperature, share):
    """Their labels are asked for and counted; the policy is taught nothing by them, and says so."""
    env = {"id": "AlignmentDuel", "num_envs": 3, "horizon": 2, "num_candidates": 2, "temperature": temperature}
    raw = alignment(model_path, {"name": "length"}, env=env, agents={"passive": {}}, evaluate_every=2)
    run(made(raw), tmp_path)
    table = results(tmp_path).to_pydict()
    assert table["alike"][0] is None and table["alike"][1] == share
    assert table["queries"][1] == 6
    assert table["gradient_steps"][1] == (0 if share else 2)
    assert table["alike_pairs"][1] == 3 * share


def test_gradient_steps_are_counted(whole_policy_run):
    _, whole = whole_policy_run
    steps = {row["agent"]: row["gradient_steps"] for row in whole.to_pylist() if row["step"] == 4}
    assert steps["passive"] == 4
    assert steps["passive_2x"] == 8


def test_a_finished_run_does_nothing_again(tmp_path, monkeypatch):
    config = made(FEATURES)
    run(config, tmp_path / "run")
    before = results(tmp_path / "run")
    stop_after(monkeypatch, 0)
    run(config, tmp_path / "run")
    assert results(tmp_path / "run").equals(before)


def test_worker_processes_give_the_same_results(tmp_path):
    run(made(FEATURES), tmp_path / "one")
    run(made(FEATURES, jobs=2), tmp_path / "two")
    assert results(tmp_path / "one").equals(results(tmp_path / "two"))


def test_a_directory_of_another_config_is_refused(tmp_path):
    run(made(FEATURES), tmp_path / "run")
    with pytest.raises(UserError, match=r"another config \('seeds' is \[5, 6, 7\] there and \[5, 6\] here"):
        run(made(FEATURES, seeds=2), tmp_path / "run")
    with pytest.raises(UserError, match=r"'env.horizon' is 9 there and 10 here"):
        run(made(FEATURES, env={**FEATURES["env"], "horizon": 10}), tmp_path / "run")
    run(made(FEATURES, checkpoint_seconds=3), tmp_path / "run")


def test_what_is_only_shown_may_change(tmp_path, monkeypatch):
    run(made(FEATURES), tmp_path)
    stop_after(monkeypatch, 0)
    run(made(FEATURES, baseline="thompson", metric="win_rate_best_of_n"), tmp_path)
    config = open_run(tmp_path)
    assert (config.baseline, config.metric) == ("thompson", "win_rate_best_of_n")


def test_an_agents_own_figures_are_means_and_cannot_pass_for_measured_ones(tmp_path, monkeypatch):
    from duelenv.agents import ComposedAgent

    steps = iter(range(100))
    monkeypatch.setattr(ComposedAgent, "update", lambda *_: {"own": float(next(steps))})
    run(made(FEATURES, agents=["passive"]), tmp_path / "own")
    rows = pq.read_table(tmp_path / "own" / "results.parquet").to_pylist()
    # One number of the whole cell stands beside its first replicate, not as three equal ones.
    assert [row["own"] for row in rows if row["seed"] == 5] == [None, 1.5, 5.5, 8.0]
    assert {row["own"] for row in rows if row["seed"] != 5} == {None}
    for name in ("queries", "simple_regret", "seed", "agent", "regret_average"):
        monkeypatch.setattr(ComposedAgent, "update", lambda *_, name=name: {name: -1.0})
        with pytest.raises(UserError, match=f"a figure named '{name}'"):
            run(made(FEATURES, agents=["passive"]), tmp_path / name)


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not a run directory"):
        run(made(FEATURES), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_setting_that_is_refused_beforehand_in_a_folder_with_a_config_lists_no_commands(tmp_path, capsys):
    run(made(FEATURES, seeds=1), tmp_path)
    shutil.rmtree(tmp_path / "cells")
    for name in ("results.parquet", "labels.parquet"):
        (tmp_path / name).unlink(missing_ok=True)
    capsys.readouterr()
    with pytest.raises(UserError, match="did you mean 'dim'"):
        run(made(FEATURES, seeds=1, env={**FEATURES["env"], "dimm": 3}), tmp_path)
    assert "is played again by" not in capsys.readouterr().err


def test_a_second_process_is_kept_out(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    run(made(FEATURES), tmp_path)
    with (tmp_path / "run.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another process"):
            run(made(FEATURES), tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"agents": ["passive", "thomson"]}, "thompson"),
        ({"agents": {"passive": {"gama": 1}}}, "'gama'"),
        ({"env": {"id": "FeatureDual"}}, "did you mean 'duelenv/FeatureDuel-v0'"),
        ({"env": {"id": "FeatureDuel", "horizn": 3}}, "did you mean 'horizon'"),
        ({"env": {"id": "FeatureDuel", "num_candidates": 1}}, "num_candidates"),
        (
            {"env": {"id": "FeatureDuel", "horizon": 9, "changes": [3, 9]}},
            "'env.changes' holds 9, but a run ends after 9",
        ),
        ({"env": {"id": "FeatureDuel", "oracle": "length"}}, "'env.oracle' is set in the wrong place"),
        ({"env": {"id": "PoolDuel"}}, "data=FILE"),
        ({"env": {"id": "MatrixDuel"}}, "'env.matrix'"),
        ({"oracle": "length"}, "takes no 'oracle'"),
        ({"backend": "lokky"}, "did you mean 'loky'"),
        ({"modules": ["missing.py"]}, "missing.py"),
        ({"modules": ["no_such_module"]}, "no_such_module"),
    ],
)
def test_what_a_part_refuses_is_one_sentence_before_any_work(tmp_path, changes, named):
    with pytest.raises(UserError, match=re.escape(named)):
        run(made(FEATURES, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "cells").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"oracle": "lenght"}, "length"),
        ({"oracle": {"name": "length", "scle": 1}}, "scle"),
        ({"oracle": "broken"}, "1.2"),
        ({"oracle": None}, "needs 'oracle'"),
        ({"prompts": None}, "needs 'prompts'"),
        ({"prompts": {"toy": {"trian": 3}}}, "did you mean 'train'"),
        ({"policy": {"path": "nothing/here"}}, "nothing/here"),
        ({"policy": {"toy": {"sed": 1}}}, "did you mean 'seed'"),
    ],
)
def test_what_a_policy_run_refuses(tmp_path, model_path, changes, named):
    raw = alignment(model_path, {"name": "length"}, agents=["passive"])
    with pytest.raises(UserError, match=re.escape(named)):
        run(made(raw, **changes), tmp_path / "run")


def test_a_change_that_only_one_agent_would_meet_too_late_is_refused(tmp_path):
    variants = {"still": {}, "moved": {"changes": [8]}}
    config = made(FEATURES, agents=["passive"], variants=variants, baseline="passive-still")
    run(config, tmp_path / "run")
    variants["moved"]["changes"] = [8, 12]
    config = made(FEATURES, agents=["passive"], variants=variants, baseline="passive-still")
    with pytest.raises(UserError, match=r"'changes' of the agent 'passive-moved' .* holds 12"):
        run(config, tmp_path / "late")
    assert not (tmp_path / "late").exists()


def count_rounds(monkeypatch):
    """The rounds played from now on, by agent."""
    played = []
    original = play._Run._round

    def counted(self):
        played.append(self.cell.label)
        original(self)

    monkeypatch.setattr(play._Run, "_round", counted)
    return played


CYCLE = {"id": "MatrixDuel", "matrix": {"name": "cyclic", "num_arms": 3}, "horizon": 30}


@pytest.mark.parametrize(
    ("env", "metric", "named", "rounds"),
    [
        (
            FEATURES["env"],
            "win_rate_best",
            "does not measure: did you mean 'win_rate_best_of_n'",
            ["passive"] * 4 + ["random"] * 4,
        ),
        (CYCLE, "regret_average", "no Condorcet winner: choose from regret_borda", ["passive"] * 4),
    ],
)
def test_a_metric_that_nothing_measures_is_refused_at_the_first_record(
    tmp_path, monkeypatch, env, metric, named, rounds
):
    played = count_rounds(monkeypatch)
    config = {**FEATURES, "env": env, "agents": ["passive", "random"]}
    with pytest.raises(UserError, match=named):
        run(made(config, metric=metric), tmp_path / "run")
    assert played == rounds
    assert not (tmp_path / "run").exists()
    # Once corrected, it comes to what an untroubled run gives.
    run(made(config, metric="regret"), tmp_path / "run")
    run(made(config), tmp_path / "whole")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole"))


def test_a_metric_that_only_the_last_agent_records_is_accepted(tmp_path, monkeypatch):
    from duelenv.agents import ComposedAgent

    update, names = ComposedAgent.update, iter(range(100))
    monkeypatch.setattr(
        ComposedAgent,
        "update",
        lambda self, *call: {**update(self, *call), **({"own": 1.0} if next(names) > 3 else {})},
    )
    config = made(FEATURES, metric="own")
    run(config, tmp_path / "run")
    assert "own" in results(tmp_path / "run").column_names


def test_nothing_to_assemble(tmp_path):
    with pytest.raises(UserError, match="No cell is finished"):
        assemble(made(FEATURES), tmp_path)


def test_no_temporary_file_is_left(tmp_path, monkeypatch):
    stop_after(monkeypatch, 4)
    with pytest.raises(Interrupted):
        run(made(FEATURES), tmp_path / "run")
    names = [name for _, _, files in os.walk(tmp_path) for name in files]
    assert "checkpoint.npz" in names
    assert not [name for name in names if name.endswith(".tmp")]


def test_what_is_measured_reaches_the_disk_as_it_is_measured(tmp_path, monkeypatch):
    stop_after(monkeypatch, 6)
    with pytest.raises(Interrupted):
        run(made(FEATURES, agents=["passive"], checkpoint_seconds=1e9), tmp_path)
    monkeypatch.undo()
    path = tmp_path / "cells" / "passive-seeds3" / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 4]
    run(made(FEATURES, agents=["passive"], checkpoint_seconds=1e9), tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    for line in lines:
        written = [row for row in rows if row["step"] == line["step"]]
        assert line["simple_regret"] == [row["simple_regret"] for row in written]
        assert line["queries"] == [row["queries"] for row in written]
    assert [line["step"] for line in lines] == [0, 4, 8, 9]


def test_no_checkpoint_is_taken_when_nothing_is_left_to_do(tmp_path, monkeypatch):
    steps = []
    save = play._Run._save
    monkeypatch.setattr(play._Run, "_save", lambda self: (steps.append(self.step), save(self)))
    run(made(FEATURES, agents=["passive"]), tmp_path)
    assert steps
    assert 9 not in steps


def test_a_refused_setting_leaves_no_directory_behind(tmp_path):
    with pytest.raises(UserError, match="num_candidates"):
        run(made({**FEATURES, "env": {"id": "FeatureDuel", "num_candidates": 1}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
