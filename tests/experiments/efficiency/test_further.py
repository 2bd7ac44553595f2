"""Worlds that a study meets after those held out, an exact one and pools: who plays there, what is frozen before."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from duelenv import UserError, oracles
from duelenv.experiments.config.loading import override_mapping
from duelenv.experiments.efficiency import stages
from duelenv.experiments.efficiency.arms import arms_on_records, untaught
from duelenv.experiments.efficiency.made_pools import made_pool
from duelenv.experiments.efficiency.reading import read_study
from duelenv.experiments.efficiency.resampling import Arm
from duelenv.experiments.efficiency.runs import Entry, Measured, Setup, measure, run_configs
from duelenv.experiments.efficiency.stages import FROZEN_FURTHER, Stages, Tuned
from duelenv.experiments.results.measurements import Results
from duelenv.policies import toy

MADE = {"oracle": {"name": "rare_word", "word": "because"}, "prompts": 8, "responses": 4}
RAW = {
    "study": "tiny",
    "base": {
        "env": {"id": "AlignmentDuel", "num_candidates": 3, "features": "words"},
        "policy": "toy",
        "prompts": {"toy": {"train": 8, "test": 4}},
        "backend": "threading",
    },
    "development": {"again": {"oracle": {"name": "rare_word", "word": "again"}}},
    "held_out": {"was": {"oracle": {"name": "rare_word", "word": "was"}}},
    "further": {
        "exact": {
            "policy": {"toy": {"max_new_tokens": 1}},
            "env": {"exact_beta": 0.1},
            "oracle": {"name": "rare_word", "word": "they"},
            "metric": "objective",
        }
    },
    "pools": {"made": MADE},
    "regimes": {"few": {"per_round": 2, "labels": 8, "every": 4}},
    "tuning": {"replay": [0, 3]},
    "seeds": {
        "tune": {"count": 1, "first": 10},
        "screen": {"count": 2, "first": 20},
        "confirm": {"count": 2, "first": 30},
    },
    "cells": {
        "taught": {"ask": "extreme", "teach": ["best_worst", "duel"], "belief": "linear_logistic"},
        "chosen": {
            "ask": {"name": "deltaucb", "prompts": "own", "asked": 2},
            "belief": {"name": "linear_logistic", "prior_precision": 0.3},
            "env": {"num_envs": 4, "selective": True},
        },
        "blind": {"ask": "random", "teach": "best_worst", "belief": "linear_logistic"},
        "looks": {"ask": "implicit_gap"},
    },
    "growth": 0,
    "jobs": 1,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DUELENV_CACHE", str(tmp_path_factory.getbasetemp() / "toy"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def study():
    return read_study(RAW)


def world_of(study, name):
    return next(world for world in study.worlds if world.name == name)


def test_a_world_changes_the_base_and_drops_settings_of_another_environment(study):
    exact = study.settings_in(world_of(study, "exact"))
    assert exact["env"] == {"id": "AlignmentDuel", "num_candidates": 3, "features": "words", "exact_beta": 0.1}
    assert exact["policy"] == {"toy": {"max_new_tokens": 1}}
    assert exact["prompts"] == {"toy": {"train": 8, "test": 4}}
    pool = study.settings_in(world_of(study, "made"))
    assert pool["env"] == {"id": "duelenv/PoolDuel-v0"}
    assert [study.trains_in(world_of(study, name)) for name in ("was", "exact", "made")] == [True, True, False]
    assert [study.metric_in(world_of(study, name)) for name in ("was", "exact", "made")] == [
        "win_rate",
        "objective",
        "simple_regret",
    ]


def test_a_made_pool_holds_what_the_oracle_says_of_different_sentences():
    path = made_pool(MADE)
    table = pq.read_table(path).to_pydict()
    assert len(table["prompt"]) == 8 * 4
    assert len({*zip(table["prompt"], table["response"], strict=True)}) == 8 * 4
    truth = oracles.make("rare_word", word="because")
    assert table["utility"] == truth.utility(table["prompt"], table["response"]).tolist()
    topics = [next(word for word in prompt.split() if word in toy.NOUNS) for prompt in table["prompt"]]
    said = [text.replace(topic, "it") for text, topic in zip(table["response"], topics, strict=True)]
    assert said[:4] != said[4:8]  # every prompt has draws of its own
    before = path.stat().st_mtime_ns
    assert made_pool(dict(MADE)) == path
    assert path.stat().st_mtime_ns == before
    assert made_pool({**MADE, "seed": 1}) != path


def test_on_a_pool_a_round_has_as_many_prompts_as_elsewhere(study):
    setup = Setup(world_of(study, "made"), study.regimes[0], 8, (30, 31))
    cells = {cell.name: Entry.of(cell.without_teaching, {}) for cell in study.cells}
    plain, choosing = run_configs(study, setup, [cells["taught-duel"], cells["chosen"]], "x").values()
    assert (plain.env.batch, choosing.env.batch) == (2, 4)
    assert plain.env.num_envs is choosing.env.num_envs is None
    assert plain.env.settings["horizon"] == choosing.env.settings["horizon"] == 4
    assert plain.data == {"path": str(made_pool(MADE))}


def test_on_a_pool_what_is_asked_and_believed_is_left_of_a_cell(study):
    setup = Setup(world_of(study, "made"), study.regimes[0], 8, (30, 31))
    names = [cell.name for cell in study.cells]
    tuned = {name: {"learning_rate": 1e-3, "replay": 3, "prior_precision": 0.3} for name in ["chosen"]}
    arms = arms_on_records(study, setup, {name: tuned.get(name, {"replay": 0}) for name in names}, names)
    assert {entry.label: entry.settings for entry in arms.entries} == {
        "taught-best_worst": {"ask": "extreme"},
        "chosen": {
            "ask": "deltaucb",
            "prompts": "own",
            "asked": 2,
            "belief": "linear_logistic",
            "prior_precision": 0.3,
        },
        # The same belief, or what the belief brings would be taken for what the rule does.
        "random_as_chosen": {
            "ask": "random",
            "prompts": "random",
            "asked": 2,
            "belief": "linear_logistic",
            "prior_precision": 0.3,
        },
    }
    assert arms.roles == {"taught-best_worst": "cell", "chosen": "cell", "random_as_chosen": "control"}
    assert arms.left_out.keys() == {"taught-duel", "blind", "looks"}
    assert arms.left_out["taught-duel"].endswith("it is taught-best_worst")
    assert arms.left_out["blind"].endswith("it is passive")
    assert "looks at the policy" in arms.left_out["looks"]


def test_settings_of_training_are_not_those_of_a_belief():
    assert untaught({"learning_rate": 1e-3, "gradient_steps": 2, "replay": 3, "beta": 0.1}) == {}
    assert untaught({"prior_precision": 0.3, "num_samples": 5}) == {"prior_precision": 0.3, "num_samples": 5}


def test_a_pool_that_is_not_there_is_no_reason_to_leave_cells_out(tmp_path):
    study = read_study(override_mapping(RAW, [f"pools={{gone: {tmp_path / 'gone.parquet'}}}"]))
    setup = Setup(world_of(study, "gone"), study.regimes[0], 8, (30, 31))
    with pytest.raises(UserError, match=r"gone\.parquet"):
        arms_on_records(study, setup, {}, [])


def test_curves_of_a_pool_rise_as_regret_falls(study, tmp_path):
    setup = Setup(world_of(study, "made"), study.regimes[0], 8, (30, 31))
    entry = Entry("random", "composed", {"ask": "random"})
    found = measure(study, setup, [entry], tmp_path / "run", progress=False)["random"]
    _, regret = Results(tmp_path / "run").curve("random", "simple_regret")
    assert (regret > 0).any()
    assert np.array_equal(found.arm.height, -regret)
    assert found.arm.labels.tolist() == [0, 4, 8]
    assert found.rows == 2


@pytest.fixture
def played(monkeypatch):
    """What would have been run, by folder; all agents are alike."""
    asked = {}

    def measured(study, setup, entries, folder, progress=None):
        asked[folder.name] = sorted(entry.label for entry in entries), setup.seeds
        labels = np.arange(0, setup.labels + 1, 4.0)
        height = 0.5 + 0.01 * labels + np.random.default_rng(0).normal(0, 0.01, (len(setup.seeds), len(labels)))
        figures = {"gradient_steps": setup.labels / 2, "model_labels": 0.0}
        return {entry.label: Measured(entry, Arm(labels, height, height, height), figures, 2) for entry in entries}

    monkeypatch.setattr(stages, "measure", measured)
    return asked


def frozen_further(study, root):
    own, regime = Stages(study, root), study.regimes[0]
    trials = study.trials
    tuned = {name: Tuned(name, trials, (0.0, 1.0)) for name in ("passive", *(cell.name for cell in study.cells))}
    screened = own.screen(regime, tuned)
    named = own.further_of(regime, tuned, screened)
    return own, regime, tuned, screened, named


def test_further_worlds_are_met_with_frozen_settings_and_the_seeds_that_confirm(played, study, tmp_path):
    own, regime, tuned, screened, named = frozen_further(study, tmp_path)
    with pytest.raises(UserError, match=r"frozen-further\.json' is missing"):
        own.further(regime, tuned, screened)
    digest = own.freeze(named, FROZEN_FURTHER)
    assert own.freeze(named, FROZEN_FURTHER) == digest
    exact, pool = own.further(regime, tuned, screened)
    assert (exact.world.name, exact.metric, pool.world.name, pool.metric) == (
        "exact",
        "objective",
        "made",
        "simple_regret",
    )
    carried = own.carried(screened)
    assert set(carried) <= set(exact.arms)
    assert set(exact.arms) == set(named["exact"]["agents"]) == set(played["further-few-exact-8"][0])
    assert {played[f"further-{name}"][1] for name in ("few-exact-8", "few-made-8", "passive-few-made-16")} == {(30, 31)}
    assert set(pool.arms) == set(named["made"]["agents"])
    assert set(pool.left_out) == set(carried) - set(pool.arms)
    assert pool.baseline.measured.entry.settings == {}  # passive's replay is nothing here
    assert exact.baseline.measured.arm.seeds == 2


def test_a_table_is_frozen_by_what_it_holds_and_not_by_where_it_lies(played, tmp_path):
    made = made_pool(MADE).read_bytes()
    frozen = []
    for name, data in (("a", made), ("b", made), ("c", made_pool({**MADE, "seed": 1}).read_bytes())):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(data)
        study = read_study(override_mapping(RAW, [f"pools={{p: {path}}}"]))
        frozen.append(json.dumps(frozen_further(study, tmp_path)[-1], sort_keys=True))
    assert frozen[0] == frozen[1] != frozen[2]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("pools.again={oracle: good_words}", "Two worlds are named 'again'"),
        ("pools.made.oracle=random", "random"),
        ("pools.made.prompts=1", "'pools.made.prompts' is 1"),
        ("pools.made.respones=4", "did you mean 'responses'"),
        ("pools.x={score: a}", "has no 'path'"),
        ("further.exact.metric=3", "'further.exact.metric' is 3"),
        ("null_trials=0", "'null_trials' is 0"),
    ],
)
def test_a_further_world_that_does_not_hold_together_is_one_sentence(override, named):
    with pytest.raises(UserError, match=named):
        read_study(override_mapping(RAW, [override]))
