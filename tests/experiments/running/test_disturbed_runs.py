"""Runs whose labels are disturbed: the config, the loop, the label log, and going on after a stop."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interrupts import stop_after
from worlds import agents_on_features

import duelenv
from duelenv import agents
from duelenv.experiments.config.loading import load
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.report.page import write_report
from duelenv.experiments.running import assembly
from duelenv.experiments.running.runner import Interrupted, run

LATE = [{"name": "flip", "probability": 0.1}, {"name": "delay", "mean": 2.0, "deliver_rest": True}]
FEATURES = {
    "name": "late",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 12, "batch": 2, "stages": LATE},
    "agents": {"passive": {}, "thompson": {"estimator": "laplace"}},
    "seeds": 3,
    "evaluate_every": 4,
    "jobs": 1,
    "label_log": True,
    "checkpoint_seconds": 0,
}


def made(**env):
    return RunConfig.from_dict({**FEATURES, "env": {**FEATURES["env"], **env}})


def results(directory):
    return pq.read_table(directory / "results.parquet").drop_columns(["seconds"])


def labels_of(directory, agent):
    rows = pq.read_table(directory / "labels.parquet").to_pylist()
    rows = [row for row in rows if row["agent"] == agent]
    table = np.full((12, 6), np.nan)
    for row in rows:
        table[row["step"] - 1, row["row"]] = np.nan if row["label"] is None else row["label"]
        assert row["source"] == ("none" if row["label"] is None else "oracle")
    return table


def test_the_runner_wraps_and_teaches_as_a_loop_by_hand_does(tmp_path):
    config = made()
    run(config, tmp_path)
    written = results(tmp_path).to_pylist()
    env = assembly.make_environment(config)
    assert env.view().late
    agent = agents.make("thompson", env, seed=0, estimator="laplace")
    observation = env.reset(seed=0)[0]
    total, told = np.zeros(3), np.full((12, 6), np.nan)
    for number in range(12):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
        total += info["regret"]["utility"].reshape(3, 2).sum(axis=1)
        told[number] = labels
        told[info["late"].round, info["late"].row] = info["late"].label
    last = [row for row in written if row["agent"] == "thompson" and row["step"] == 12]
    assert [row["regret_utility"] for row in last] == pytest.approx(total.tolist(), rel=1e-12)
    assert [row["queries"] for row in last] == [24, 24, 24]
    np.testing.assert_array_equal(labels_of(tmp_path, "thompson"), told)
    assert not np.isnan(told).any()


def test_a_label_that_never_came_is_in_the_log_as_nobodys(tmp_path):
    run(made(stages=[{"name": "missing", "probability": 0.4}]), tmp_path)
    missing = np.isnan(labels_of(tmp_path, "passive"))
    assert 0 < missing.sum() < missing.size


@pytest.mark.parametrize("rounds", [1, 5, 11, 17])
@pytest.mark.parametrize("motion", [{}, {"drift": 0.1, "changes": [6]}])
def test_an_interrupted_disturbed_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch, rounds, motion):
    stages = [*LATE, {"name": "corruption", "budget": 4}, {"name": "adversarial_delay", "rounds": 2}]
    stages.append({"name": "batching", "rounds": 3})
    config = made(stages=stages, **motion)
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, rounds)
        with pytest.raises(Interrupted):
            run(config, tmp_path / "stopped")
    run(config, tmp_path / "stopped")
    assert results(tmp_path / "stopped").equals(results(tmp_path / "whole"))
    same = [pq.read_table(tmp_path / name / "labels.parquet") for name in ("stopped", "whole")]
    assert same[0].equals(same[1])


@pytest.mark.parametrize("rounds", [1, 6, 13])
def test_a_run_with_a_source_that_answers_later_goes_on_where_it_stopped(tmp_path, monkeypatch, rounds):
    """A user's module registers the source; noise, a setting of every oracle, disturbs its answers too."""
    table = [
        {"prompt": f"q{p}", "response": f"{p} " + "x" * (3 * k % 7), "score": k} for p in range(8) for k in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "pool.parquet")
    raw = {**FEATURES, "env": {"id": "PoolDuel", "horizon": 12, "batch": 2}, "data": str(tmp_path / "pool.parquet")}
    raw |= {"oracle": {"name": "slow_desk", "noise": 0.1}, "modules": [str(Path(__file__).with_name("run_parts.py"))]}
    config = RunConfig.from_dict({**raw, "agents": {"passive": {}, "thompson": {}}})
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, rounds)
        with pytest.raises(Interrupted):
            run(config, tmp_path / "stopped")
    run(config, tmp_path / "stopped")
    assert results(tmp_path / "stopped").equals(results(tmp_path / "whole"))
    for agent in ("passive", "thompson"):
        labels = labels_of(tmp_path / "whole", agent)
        np.testing.assert_array_equal(labels_of(tmp_path / "stopped", agent), labels)
        assert not np.isnan(labels[:10]).any() and np.isnan(labels[10:]).all()


def test_a_stage_of_a_users_module_is_used_by_its_name(tmp_path):
    parts = [str(Path(__file__).with_name("run_parts.py"))]
    settings = {**FEATURES, "modules": parts, "agents": ["passive"]}
    for name, stages in (("plain", []), ("turned", ["turned_around"])):
        run(RunConfig.from_dict({**settings, "env": {**FEATURES["env"], "stages": stages}}), tmp_path / name)
    plain, turned = (labels_of(tmp_path / name, "passive") for name in ("plain", "turned"))
    np.testing.assert_array_equal(turned, 1.0 - plain)


def test_stages_decide_which_run_it_is():
    assert made().identity() != made(stages=None).identity()
    assert RunConfig.from_dict(made().to_dict()) == made()


@pytest.mark.parametrize("name", agents_on_features())
def test_every_agent_learns_from_late_labels(name):
    disturbed = [{"name": "missing", "probability": 0.2}, {"name": "delay", "mean": 3}]
    env = {**FEATURES["env"], "fixed": True, "batch": 1, "stages": disturbed}
    config = RunConfig.from_dict({**FEATURES, "env": env, "seeds": 1})
    env = assembly.make_environment(config)
    agent = agents.make(name, env, seed=0)
    observation = env.reset(seed=0)[0]
    for _ in range(12):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following


def test_the_robust_suite_makes_its_worlds():
    config = load("robust", ["seeds=2"])
    disturbed = {}
    for agent in config.agents:
        env = assembly.make_environment(config.for_agent(agent.label))
        kinds = [stage.kind for stage in env._labels._pipeline._stages]
        disturbed.setdefault(agent.label.partition("-")[2], kinds)
        assert env.unwrapped.horizon == 1000
    assert disturbed["clean"] == disturbed["drift"] == []
    assert disturbed["delay_corruption"] == ["corruption", "delay"]
    assert len(disturbed) == 10


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("flip", "stages is 'flip', expected a list such as"),
        ([3], "stages holds 3, expected a list"),
        ([{"probability": 0.1}], "without a name"),
        (["flop"], "stage 'flop' is unknown: did you mean 'flip'?"),
        (["delay"], "stage 'delay' needs the setting 'mean'"),
        ([{"name": "delay", "mean": -1}], "mean is -1, expected"),
    ],
)
def test_a_wrong_stage_is_one_sentence(stages, message):
    with pytest.raises(duelenv.UserError) as caught:
        assembly.make_environment(made(stages=stages))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_text_label_is_reported(tmp_path):
    """In a world of features the log has no texts; the report once crashed over it, with the cells finished."""
    run(made(), tmp_path)
    assert write_report(tmp_path).stat().st_size > 10_000
