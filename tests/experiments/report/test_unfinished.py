"""A report in the middle of a run: what is missing, and how far it is."""

import pytest
from interrupts import stop_after

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.runner import Interrupted, run

RAW = {
    "name": "seen",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 9, "batch": 2},
    "agents": ["passive", "thompson", "maxinp"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
    "backend": "sequential",
}


def interrupted(directory, monkeypatch, rounds, **changes):
    with monkeypatch.context() as patch:
        stop_after(patch, rounds)
        with pytest.raises(Interrupted):
            run(RunConfig.from_dict({**RAW, **changes}), directory, progress=False)


@pytest.mark.slow
def test_the_report_says_which_cells_are_unfinished_and_how_far(tmp_path, monkeypatch, capsys):
    interrupted(tmp_path / "run", monkeypatch, 13, budget={"labels": 18})
    assert main(["report", str(tmp_path / "run")]) == 0
    expected = "2 of 3 cells unfinished: thompson-seeds2 at 8 of 18 labels a seed, maxinp-seeds2 not begun"
    out = capsys.readouterr().out
    assert " ".join(out.splitlines()[:2]).startswith(expected)
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"left out of the tables and figures:</strong> {expected}." in page
    run(RunConfig.from_dict({**RAW, "budget": {"labels": 18}}), tmp_path / "run", progress=False)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "cells unfinished" not in capsys.readouterr().out + (tmp_path / "run" / "report.html").read_text()


def test_without_a_budget_rounds_say_how_far_and_nothing_finished_is_a_sentence(tmp_path, monkeypatch, capsys):
    interrupted(tmp_path / "run", monkeypatch, 4)
    assert main(["report", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "No cell is finished" in error
    assert "3 of 3 cells unfinished: passive-seeds2 at round 4 of 9 (8 labels a seed), thompson-seeds2 not" in error
