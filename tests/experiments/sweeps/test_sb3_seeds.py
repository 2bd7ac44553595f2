"""Learners of Stable-Baselines3 in runs and sweeps of several seeds: one for each seed, whatever the others are."""

import numpy as np
import pytest

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.sweeps.plan import read_sweep
from duelenv.experiments.sweeps.sweep import play

AGENT = "sb3_self_play"
BASE = {
    "name": "learners",
    "env": {"id": "FeatureDuel", "num_candidates": 3, "dim": 2, "batch": 4},
    "agents": {"passive": {}, AGENT: {"rollout": 16, "batch_size": 8, "epochs": 1, "width": 8}},
    "budget": {"labels": 32},
    "seeds": 3,
    "evaluate_every": 4,
    "jobs": 1,
}


def finals(folder, config):
    run(RunConfig.from_dict(config), folder, progress=False)
    results = Results(folder)
    return {metric: results.final(AGENT, metric) for metric in ("simple_regret", "gradient_steps", "queries")}


@pytest.mark.parametrize("stages", [[], [{"name": "delay", "mean": 1.0}], [{"name": "missing", "probability": 0.2}]])
def test_seeds_learn_apart_and_are_the_same_beside_others(tmp_path, stages):
    config = {**BASE, "env": {**BASE["env"], "stages": stages}}
    three = finals(tmp_path / "three", config)
    two = finals(tmp_path / "two", {**config, "seeds": 2})
    assert set(three["simple_regret"].values()) != {three["simple_regret"][0]}
    assert all(count > 0 for count in three["gradient_steps"].values())
    for metric in ("simple_regret", "queries"):
        assert {seed: three[metric][seed] for seed in (0, 1)} == two[metric]
    assert two["queries"] == {0: 32, 1: 32}


def test_a_run_that_is_extended_by_a_seed_keeps_those_that_were_there(tmp_path):
    two = finals(tmp_path / "run", {**BASE, "seeds": 2})
    three = finals(tmp_path / "run", BASE)
    assert {seed: three["simple_regret"][seed] for seed in (0, 1)} == two["simple_regret"]


@pytest.mark.parametrize("halving", [None, "seeds"])
def test_a_sweep_plays_them_with_several_seeds_and_confirms(tmp_path, halving):
    section = {
        "agent": AGENT,
        "search": "grid",
        "labels": 1000,
        "confirm": 2,
        "halving": halving,
        "settings": {f"agents.{AGENT}.algorithm": ["ppo"], f"agents.{AGENT}.learning_rate": [0.001, 0.01, 0.1]},
    }
    trials, metric, best, confirmed = play(read_sweep(BASE, section), tmp_path, progress=False)
    assert metric == "simple_regret"
    assert [one.rungs for one in trials if one is not best] == [1, 1]
    assert best.value.mean == min(one.value.mean for one in trials if one.rungs == best.rungs)
    assert confirmed.seeds == (3, 4)
    assert np.isfinite([confirmed.best.mean, confirmed.before.mean]).all()
