"""The stages of a study: what they choose and freeze, that they go on where they were, and what they leave."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from duelenv import UserError
from duelenv.experiments.config.loading import override_mapping
from duelenv.experiments.efficiency import stages
from duelenv.experiments.efficiency.command import run_study
from duelenv.experiments.efficiency.reading import read_study
from duelenv.experiments.efficiency.resampling import Arm, compare
from duelenv.experiments.efficiency.runs import Measured
from duelenv.experiments.efficiency.stages import Baseline, Stages, Table, Tuned
from duelenv.experiments.tables.crossing import plateau_of

TINY = {
    "study": "tiny",
    "base": {
        "env": {"id": "AlignmentDuel", "num_candidates": 3},
        "policy": "toy",
        "prompts": {"toy": {"train": 8, "test": 4}},
        "backend": "threading",
    },
    "development": {"again": {"oracle": {"name": "rare_word", "word": "again"}}},
    "held_out": {"was": {"oracle": {"name": "rare_word", "word": "was"}}},
    "regimes": {"few": {"per_round": 2, "labels": 8, "every": 4}},
    "tuning": {"replay": [0, 3]},
    "seeds": {
        "tune": {"count": 1, "first": 10},
        "screen": {"count": 2, "first": 20},
        "confirm": {"count": 2, "first": 30},
    },
    "cells": {"taught": {"ask": "extreme", "teach": "best_worst", "belief": "linear_logistic"}},
    "controls": {"perfect": {"name": "perfect_belief", "ask": "extreme"}},
    "growth": 0,
    "jobs": 1,
}


def test_the_best_trial_is_that_of_the_highest_score_and_the_first_of_equals():
    trials = tuple({"rate": rate, "replay": replay} for rate in (1, 2) for replay in (0, 3))
    tuned = Tuned("x", trials, (0.5, 0.7, 0.9, 0.7))
    assert tuned.best == {"rate": 2, "replay": 0}
    assert tuned.best_with({"replay": 3}) == {"rate": 1, "replay": 3}


def test_passive_is_settled_if_it_is_flat_and_arrives():
    flat, rising = (plateau_of(np.arange(0, 33, 4.0), rises(range(6), 32, middle).height) for middle in (4, 24))
    settled = [Baseline(None, 16, plateau, arrives).settled for plateau in (flat, rising) for arrives in (1.0, 0.94)]
    assert settled == [True, False, False, False]


def test_of_cells_that_never_arrive_the_higher_one_is_carried_on(tmp_path):
    passive = rises(range(12), 64, 16)
    arms = {name: rises(range(12), 64, middle) for name, middle in (("late", 58), ("less_late", 54), ("early", 12))}
    found = {name: compare(arm, passive, 48, draws=50) for name, arm in arms.items()}
    assert found["late"].log_ratio.value == found["less_late"].log_ratio.value == np.inf
    table = Table("screen", None, None, None, {}, found, {})
    study = read_study({**TINY, "carried": 2})
    assert Stages(study, tmp_path).carried(table) == ["early", "less_late"]


def test_what_is_frozen_stays(tmp_path):
    own = Stages(read_study(TINY), tmp_path)
    with pytest.raises(UserError, match="freeze before confirming"):
        own.confirm(own.study.regimes[0], {}, None)
    digest = own.freeze({"few": {"passive": {"replay": 0}}})
    assert own.freeze({"few": {"passive": {"replay": 0}}}) == digest
    with pytest.raises(UserError, match="what is frozen is not changed"):
        own.freeze({"few": {"passive": {"replay": 3}}})


def rises(seeds, labels, middle):
    """Arms that rise from .5 to .9 around `middle` labels, evaluated every 4."""
    generator = np.random.default_rng(0)
    places = np.arange(0, labels + 1, 4.0)
    height = 0.5 + 0.4 / (1 + np.exp(-(places - middle) / 4))
    height = height + generator.normal(0, 0.01, size=(len(seeds), len(places)))
    return Arm(places, height, height, height)


@pytest.fixture
def played(monkeypatch):
    """What would have been run, by folder; every agent rises around the label that its settings name."""
    asked = {}

    def measure(study, setup, entries, folder, progress=None):
        asked[folder.name] = {entry.label: entry.settings for entry in entries}
        figures = {"gradient_steps": 3.0 * setup.labels / 2, "model_labels": 0.0}
        return {
            entry.label: Measured(entry, rises(setup.seeds, setup.labels, entry.settings["middle"]), figures, 2)
            for entry in entries
        }

    monkeypatch.setattr(stages, "measure", measure)
    return asked


def middling(*middles, **changes):
    """A study whose agents are tuned over where they rise."""
    raw = {**TINY, "tuning": {"middle": list(middles)}, "controls": {}, "growth": 3, **changes}
    seeds = {stage: {"count": 12, "first": first} for first, stage in ((0, "tune"), (20, "screen"), (40, "confirm"))}
    return read_study({**raw, "seeds": seeds})


def test_labels_grow_by_half_until_passive_is_flat_at_twice_and_arrives(played, tmp_path):
    study = middling(28, regimes={"few": {"per_round": 2, "labels": 24, "every": 4}})
    found = Stages(study, tmp_path).baseline("screen", study.worlds[0], study.regimes[0], {"middle": 28})
    # At 28 + 4 ln 9 = 37 labels it is there; 48 are no plateau yet, 72 are, of which the half is 36.
    assert list(played) == [f"screen-passive-few-again-{twice}" for twice in (48, 72, 112)]
    assert found.labels == 56
    assert found.settled
    few = middling(28, regimes={"few": {"per_round": 2, "labels": 24, "every": 4}}, growth=1)
    assert not Stages(few, tmp_path).baseline("screen", few.worlds[0], few.regimes[0], {"middle": 28}).settled


def test_everybody_has_the_same_trials_and_each_is_screened_with_its_best(played, tmp_path):
    cells = {name: {"ask": "extreme"} for name in ("one", "two")}
    study = middling(40, 20, 30, regimes={"few": {"per_round": 2, "labels": 60, "every": 4}}, cells=cells)
    own, regime = Stages(study, tmp_path), study.regimes[0]
    tuned = own.tune(regime)
    assert sorted(played["tune-few-again-60"]) == [f"{n}.{i}" for n in ("one", "passive", "two") for i in range(3)]
    assert {one.best["middle"] for one in tuned.values()} == {20}
    table = own.screen(regime, tuned)
    assert played["screen-few-again-60"] == {name: {"ask": "extreme", "middle": 20} for name in cells}
    assert own.carried(table) == ["one", "two"]
    frozen = own.frozen_of(regime, tuned, table)
    # They took 3 steps a round. Random pairs without a belief and teaching are `passive` itself, which is there.
    assert list(frozen["agents"]) == ["one", "two", "passive_3_steps"]
    own.freeze({"few": frozen})
    (confirmed,) = own.confirm(regime, tuned, table)
    assert confirmed.world.name == "was"
    assert played["confirm-few-was-60"].keys() == frozen["agents"].keys()


PASSIVE_AT_28 = Tuned("passive", ({"middle": 28},), (0.0,))


def test_nobody_but_passive_plays_beyond_the_most_of_a_regime(played, tmp_path):
    regimes = {"few": {"per_round": 2, "labels": 24, "every": 4, "most": 24}}
    study = middling(28, regimes=regimes, cells={"one": {"ask": "extreme"}})
    own, regime = Stages(study, tmp_path), study.regimes[0]
    found = own.baseline("screen", study.worlds[0], regime, {"middle": 28})
    # It is flat in 72 and arrives in them, at 37 labels: later than agents play, and nobody plays 37 for that.
    assert list(played) == [f"screen-passive-few-again-{twice}" for twice in (48, 72)]
    assert (found.labels, found.measured.arm.labels[-1], found.settled) == (24, 72, True)
    early, late = ({"one": Tuned("one", ({"middle": middle},), (0.0,)), "passive": PASSIVE_AT_28} for middle in (8, 28))
    first = own.screen(regime, early).comparisons["one"]
    # Both rise alike, 20 labels apart: 8 + 4 ln 9 against 28 + 4 ln 9.
    assert first.log_ratio.value == pytest.approx(np.log((8 + 4 * np.log(9)) / (28 + 4 * np.log(9))), abs=0.05)
    second = own.screen(regime, late).comparisons["one"]
    assert (second.log_ratio.value, second.never) == (0.0, 1.0)


def test_where_nothing_is_trained_everybody_plays_as_long_as_passive(played, tmp_path):
    regimes = {"few": {"per_round": 2, "labels": 24, "every": 4, "most": 24}}
    study = middling(28, regimes=regimes, cells={"one": {"ask": "extreme"}})
    pool = replace(study.worlds[0], settings={**study.worlds[0].settings, "policy": None})
    found = Stages(study, tmp_path).baseline("screen", pool, study.regimes[0], {"middle": 28})
    assert (found.labels, found.measured.arm.labels[-1], found.settled) == (56, 112, True)


def play_by_trial_and_seed(monkeypatch, heights):
    """Make flat curves of `heights[trial][seed]`; a list of what was asked for grows: folder, labels, seeds."""
    asked = []

    def measure(study, setup, entries, folder, progress=None):
        asked.append((folder.name, sorted(entry.label for entry in entries), setup.seeds))
        found = {}
        for entry in entries:
            height = np.array([[heights[entry.settings["trial"]][seed]] * 3 for seed in setup.seeds])
            found[entry.label] = Measured(entry, Arm(np.array([0.0, 4.0, 8.0]), height, height, height), {}, 2)
        return found

    monkeypatch.setattr(stages, "measure", measure)
    return asked


def test_the_best_trials_are_raced_on_more_seeds_and_the_best_of_those_wins(monkeypatch, tmp_path):
    heights = {  # by trial and seed: the first seed flatters trial 2, the others are for 1; 3 is not tried again
        0: {1: 0.1},
        1: {1: 0.6, 7: 0.9, 8: 0.9},
        2: {1: 0.8, 7: 0.5, 8: 0.5},
        3: {1: 0.5, 7: 1.0, 8: 1.0},
    }
    asked = play_by_trial_and_seed(monkeypatch, heights)
    seeds = {"tune": {"count": 1, "first": 1}, "race": {"count": 2, "first": 7}}
    seeds |= {stage: {"count": 2, "first": first} for stage, first in (("screen", 20), ("confirm", 30))}
    raw = {**TINY, "tuning": {"trial": [0, 1, 2, 3]}, "seeds": seeds, "finalists": 2, "controls": {}}
    study = read_study(raw)
    tuned = Stages(study, tmp_path).tune(study.regimes[0])
    assert asked[0][1:] == (sorted(f"{name}.{trial}" for name in ("taught", "passive") for trial in range(4)), (1,))
    assert asked[1][1:] == (sorted(f"{name}.{trial}" for name in ("taught", "passive") for trial in (1, 2)), (7, 8))
    for own in tuned.values():
        assert own.finalists == (2, 1)
        assert own.scores == pytest.approx((0.1, (0.6 + 0.9 + 0.9) / 3, (0.8 + 0.5 + 0.5) / 3, 0.5))
        assert own.best == {"trial": 1}
    # Of those that were not raced the best is taken only where no finalist fits.
    one = Tuned(
        "x", ({"rate": 1, "replay": 0}, {"rate": 2, "replay": 0}, {"rate": 1, "replay": 3}), (0.5, 0.9, 0.4), (0,)
    )
    assert (one.best, one.best_with({"replay": 3})) == ({"rate": 1, "replay": 0}, {"rate": 1, "replay": 3})


def test_every_trial_of_the_baseline_is_tried_on_as_many_seeds(monkeypatch, tmp_path):
    heights = {0: {1: 0.9, 7: 0.1, 8: 0.1, 9: 0.1}, 1: {1: 0.2, 7: 0.6, 8: 0.6, 9: 0.9}}
    asked = play_by_trial_and_seed(monkeypatch, heights)
    seeds = {"tune": {"count": 1, "first": 1}, "race": {"count": 1, "first": 9}, "baseline": {"count": 2, "first": 7}}
    seeds |= {stage: {"count": 2, "first": first} for stage, first in (("screen", 20), ("confirm", 30))}
    study = read_study({**TINY, "tuning": {"trial": [0, 1]}, "seeds": seeds, "finalists": 1, "controls": {}})
    tuned = Stages(study, tmp_path).tune(study.regimes[0])
    looks = [one[1:] for one in asked if one[0].startswith("baseline-")]
    assert looks == [(["passive.0", "passive.1"], (7, 8))]
    # The first seed flatters trial 0, which alone is raced. Of `passive` the other one is seen to be better.
    assert (tuned["taught"].best, tuned["taught"].scores) == ({"trial": 0}, pytest.approx((0.5, 0.2)))
    assert (tuned["passive"].best, tuned["passive"].scores) == (
        {"trial": 1},
        pytest.approx(((0.9 + 0.1 + 0.1 + 0.1) / 4, (0.2 + 0.6 + 0.6) / 3)),
    )


@pytest.mark.slow
def test_a_study_from_its_first_trial_to_its_last_table(tmp_path):
    first = run_study(TINY, ["stage=tune"], tmp_path, progress=False)
    assert first.count("replay=") == 2
    assert not (tmp_path / "frozen.json").exists()
    tuning = tmp_path / "runs" / "tune-few-again-8" / "run.json"
    before = tuning.stat().st_mtime_ns

    text = run_study(TINY, [], tmp_path, progress=False)
    assert tuning.stat().st_mtime_ns == before  # gone on with, not played again
    assert "confirm: few in was (held_out), 8 labels" in text
    assert "SHA-256" in text
    for name in ("study.txt", "study.yaml", "frozen.json", "screen-few.png", "labels-few.png"):
        assert (tmp_path / name).stat().st_size > 0

    rows = pq.read_table(tmp_path / "arms.parquet").to_pylist()
    assert [row["agent"] for row in rows if row["stage"] == "tune"] == ["passive", "passive", "taught", "taught"]
    confirmed = {row["agent"]: row for row in rows if row["stage"] == "confirm"}
    assert {name: row["role"] for name, row in confirmed.items()} == {
        "passive": "baseline",
        "taught": "cell",
        "random_as_taught": "control",
        "passive_2_steps": "control",  # one on the labels, one on what is taught
        **({"passive_replay": "control"} if "passive_replay" in confirmed else {}),
        "perfect": "privileged",
    }
    assert confirmed["taught"]["gradient_steps"] == confirmed["passive_2_steps"]["gradient_steps"]
    assert confirmed["taught"]["seeds"] == 2
    with pytest.raises(UserError, match="what is frozen is not changed"):
        run_study(override_mapping(TINY, ["held_out.was.oracle.word=it"]), [], tmp_path, progress=False)


def test_a_dry_study_counts_cells_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run_study(TINY, ["stage=screen"], dry=True)
    counts = {line.split()[1]: int(line.split()[2]) for line in text.splitlines() if line.startswith("few")}
    assert counts == {"tune": 2 * 2, "screen": 2 * 2}  # agents x trials, agents x seeds
    more = run_study(override_mapping(TINY, ["seeds.baseline={count: 3, first: 900}"]), ["stage=tune"], dry=True)
    (tune,) = [int(line.split()[2]) for line in more.splitlines() if line.startswith("few")]
    assert tune == 2 * 2 + 2 * 3  # and trials x seeds of the baseline
    assert list(tmp_path.iterdir()) == []
