"""What a newcomer's first run met: it is refused in one sentence, before anything is played, and leaves no folder."""

from pathlib import Path

import pytest

from duelenv import UserError
from duelenv.experiments.config.loading import load, read_study_file, suites
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.runner import run
from duelenv.ground.devices import usable_device

WORLD = {"id": "FeatureDuel", "num_candidates": 3, "dim": 2, "horizon": 4}


def config(**changes):
    return RunConfig.from_dict({"name": "first", "env": WORLD, "agents": ["passive"], "jobs": 1, "seeds": 2, **changes})


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("bare", "no 'recommend'"),
        ("stateless", "no 'state_dict'"),
        ("begun", "_recommend"),
        ("raises", r"ZeroDivisionError: nothing to divide by, in line \d+ of '.*unfinished_agents.py'; correct it"),
    ],
)
def test_an_unfinished_agent_is_named_with_what_it_lacks_and_binds_no_folder(tmp_path, name, missing):
    agents = {"passive": {}, "mine": {"name": name}}
    modules = [str(Path(__file__).with_name("unfinished_agents.py"))]
    with pytest.raises(UserError, match=missing) as refused:
        run(config(agents=agents, modules=modules), tmp_path / "run")
    assert f"agent {name!r} (label 'mine')" in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("metric", ["foo", "winrate", "regret_of_nobody"])
def test_a_metric_that_nothing_measures_leaves_no_folder(tmp_path, metric):
    with pytest.raises(UserError, match=f"'metric' is '{metric}'"):
        run(config(metric=metric), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("horizon", [150, 7, 2])
def test_the_robust_suite_takes_any_horizon(horizon):
    prepare(load("robust", [f"env.horizon={horizon}", "seeds=1", "agents=[passive]"]))


@pytest.mark.parametrize("suite", sorted(name for name in suites() if read_study_file(name) is None))
def test_no_suite_names_a_file_of_the_repository(suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = load(suite, ["data=mine.parquet"] if suite == "pool" else [])
    code = [name for name in raw.modules if name.endswith(".py")]
    named = [raw.data, raw.labels, raw.policy and raw.policy.settings.get("path"), *code]
    assert [one for one in named if one] == ([{"path": str(tmp_path / "mine.parquet")}] if suite == "pool" else [])


@pytest.mark.parametrize("device", ["cuda:77", "cud", "cuda:-1"])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(UserError, match=f"device is '{device}', which is not there: .*choose from cpu"):
        usable_device(device)


@pytest.mark.parametrize("metric", ["foo", "winrate", "regret_of_nobody"])
def test_a_dry_run_refuses_what_the_run_would(tmp_path, metric):
    with pytest.raises(UserError, match=f"'metric' is '{metric}'"):
        dry_run(config(metric=metric), tmp_path / "run")
    with pytest.raises(UserError, match="'better' is 'lower', but of 'win_rate_best_of_n' higher is better"):
        dry_run(config(metric="win_rate_best_of_n", better="lower"), tmp_path / "run")
    with pytest.raises(UserError, match="backend 'dusk' is unknown: did you mean 'dask'"):
        dry_run(config(backend="dusk"), tmp_path / "run")
    assert not list(tmp_path.iterdir())
