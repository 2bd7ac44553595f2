"""Trackers beside a run: each point is told once, whatever happens, and nothing that they do stops it."""

import json
import warnings

import numpy as np
import pytest
from interrupts import stop_after

from duelenv import UserError
from duelenv.experiments import trackers
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running import play
from duelenv.experiments.running.runner import CellFailed, Interrupted, run
from duelenv.experiments.trackers.following import figures_of
from duelenv.testing import CheckFailed, check_tracker

RAW = {
    "name": "told",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 9, "batch": 2},
    "agents": ["passive"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
    "backend": "sequential",
    "checkpoint_seconds": 1e9,  # only where it is told to
}
TOLD: list = []


class Listening:
    """Remembers what it is told; raises in the method that is named."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def _note(self, *words) -> None:
        TOLD.append(words)
        if words[0] == self.fails:
            raise ValueError("the other side is gone.")

    def start(self, cell, config) -> None:
        self._note("start", cell.name, cell.id, cell.logged, config["name"])

    def log(self, step, figures) -> None:
        self._note("log", step, figures)

    def close(self, failed) -> None:
        self._note("close", failed)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS._parts, "listening", Listening)
    TOLD.clear()


def made(*wanted, **changes):
    return RunConfig.from_dict({**RAW, "trackers": list(wanted), **changes})


def steps():
    return [words[1] for words in TOLD if words[0] == "log"]


def test_every_record_is_told_with_means_over_seeds(tmp_path):
    run(made("listening"), tmp_path / "run", progress=False)
    assert [words[0] for words in TOLD] == ["start", "log", "log", "log", "log", "close"]
    assert steps() == [0, 3, 6, 9] and TOLD[-1] == ("close", False)
    last = json.loads((tmp_path / "run/cells/passive-seeds2/records.jsonl").read_text().splitlines()[-1])
    figures = TOLD[-2][2]
    assert figures["simple_regret"] == pytest.approx(np.mean(last["simple_regret"]))
    assert figures["queries"] == 18.0 and "step" not in figures


def test_a_cell_that_goes_on_tells_nothing_twice_and_has_the_same_id(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(Interrupted):
            run(made("listening"), tmp_path / "run", progress=False)
    assert steps() == [0, 3, 6] and TOLD[-1] == ("close", False)  # to be stopped is no failure
    # There is no checkpoint, so that all rounds are played again.
    run(made("listening"), tmp_path / "run", progress=False)
    assert steps() == [0, 3, 6, 9]
    first, second = (words for words in TOLD if words[0] == "start")
    assert first[2] == second[2] and (first[3], second[3]) == (None, 6)


def test_a_tracker_that_is_added_later_is_told_everything_and_changes_no_identity(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(Interrupted):
            run(made(), tmp_path / "run", progress=False)
    run(made("listening"), tmp_path / "run", progress=False)
    assert steps() == [0, 3, 6, 9]
    assert made("listening").identity() == made().identity()
    assert RunConfig.from_dict(made({"name": "listening", "strict": True}).to_dict()).trackers[0].settings == {
        "strict": True
    }


def test_the_same_cell_in_another_folder_has_another_id(tmp_path):
    for name in "ab":
        run(made("listening"), tmp_path / name, progress=False)
    first, second = (words[2] for words in TOLD if words[0] == "start")
    assert first != second and len(first) == 32


@pytest.mark.parametrize("where", ["start", "log", "close"])
def test_a_failure_is_said_once_and_the_run_goes_on(tmp_path, where):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run(made({"name": "listening", "fails": where}), tmp_path / "run", progress=False)
    ours = [str(one.message) for one in said if "tracker" in str(one.message)]
    expected = "the tracker 'listening' failed, and cells go on without it (ValueError: the other side is gone)"
    assert ours == [expected]
    assert (tmp_path / "run" / "results.parquet").exists()


def test_a_strict_one_stops_the_run(tmp_path):
    with pytest.raises(UserError, match=r"the tracker 'listening' failed \(ValueError: the other side is gone\); with"):
        run(made({"name": "listening", "fails": "log", "strict": True}), tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("raised", "seen", "failed"), [(ZeroDivisionError, CellFailed, True), (play.Stopped, UserError, False)]
)
def test_a_cell_that_fails_says_so_and_one_that_is_told_to_stop_does_not(tmp_path, monkeypatch, raised, seen, failed):
    def broken(self):
        raise raised

    monkeypatch.setattr(play._Run, "_round", broken)
    with pytest.raises(seen):
        run(made("listening"), tmp_path / "run", progress=False)
    assert TOLD[-1] == ("close", failed)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["tensorbord"], "did you mean 'tensorboard'"),
        ([{"name": "listening", "failing": 1}], "has no setting 'failing'"),
        ([{"name": "listening", "strict": "yes"}], "expected true or false"),
        (["listening", "listening"], "more than once"),
        ([{"mode": "offline"}], "add the name of a tracker"),
        (3, "expected a list"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_begins(tmp_path, wanted, words):
    with pytest.raises(UserError, match=words):
        run(RunConfig.from_dict({**RAW, "trackers": wanted}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists() and not TOLD


def test_figures_are_means_of_what_is_finite():
    record = {"step": 3, "a": [1.0, float("nan"), 3.0], "b": float("nan"), "c": 2, "d": [float("inf"), 1.0]}
    assert figures_of(record) == {"a": 2.0, "c": 2.0, "d": 1.0}


def test_the_check_passes_one_that_listens_and_names_what_is_wrong(tmp_path, monkeypatch):
    check_tracker(Listening, tmp_path)

    class Talking(Listening):
        def log(self, step, figures):
            figures["more"] = 1.0

    with pytest.raises(CheckFailed, match="changed the figures"):
        check_tracker(Talking, tmp_path)

    class Setting(Listening):
        def close(self, failed):
            monkeypatch.setenv("SET_BY_A_TRACKER", "1")

    with pytest.raises(CheckFailed, match="SET_BY_A_TRACKER"):
        check_tracker(Setting, tmp_path)
