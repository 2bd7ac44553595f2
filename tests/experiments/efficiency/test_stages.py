"""The stages of a study: what they choose and freeze, that they go on where they were, and what they leave."""

import pyarrow.parquet as pq
import pytest

from duelenv import UserError
from duelenv.experiments.efficiency.command import run_study
from duelenv.experiments.efficiency.stages import Stages, Tuned
from duelenv.experiments.efficiency.study import read_study
from duelenv.experiments.loading import override_mapping

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


def test_what_is_frozen_stays(tmp_path):
    stages = Stages(read_study(TINY), tmp_path)
    with pytest.raises(UserError, match="freeze before confirming"):
        stages.confirm(stages.study.regimes[0], {}, None)
    digest = stages.freeze({"few": {"passive": {"replay": 0}}})
    assert stages.freeze({"few": {"passive": {"replay": 0}}}) == digest
    with pytest.raises(UserError, match="what is frozen is not changed"):
        stages.freeze({"few": {"passive": {"replay": 3}}})


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
    assert list(tmp_path.iterdir()) == []
