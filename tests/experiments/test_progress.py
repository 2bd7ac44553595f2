"""What a person sees: bars on a terminal, lines in a log."""

import json

import pytest

from duelenv.experiments import progress as progress_module
from duelenv.experiments.cell import Cell, CellReport
from duelenv.experiments.progress import Progress


@pytest.fixture
def folders(tmp_path):
    for name, rounds in (("passive-seed0", 30), ("real-seed0", 10)):
        (tmp_path / name).mkdir()
        progress = {"rounds": rounds, "horizon": 60, "figure": "win_rate 0.612"}
        (tmp_path / name / "progress.json").write_text(json.dumps(progress))
    return [tmp_path / "passive-seed0", tmp_path / "real-seed0", tmp_path / "not-started"]


def test_bars_show_cells_rounds_and_the_figure_that_matters(folders, capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "_POLL_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("demo", 4, 1, folders, True) as progress:
        progress.note("demo: preparing")
        progress._refresh()
        progress.finished(CellReport(Cell("passive", (0,)), 2.0, "win_rate 0.612"))
        progress._refresh()
    error = capsys.readouterr().err
    assert "1 of 4 cells are finished already" in error
    assert "demo: 2/4 cells" in error
    assert "40/180 rounds" in error
    assert "passive-seed0 win_rate 0.612; real-seed0 0.612" in error


def test_a_log_gets_one_line_a_cell(folders, capsys):
    with Progress("demo", 2, 0, folders, None) as progress:
        progress.note("demo: preparing")
        progress.finished(CellReport(Cell("passive", (0, 1)), 2.0, "simple_regret 0.1"))
        progress.finished(CellReport(Cell("real", (3,)), 2.5, ""))
    assert capsys.readouterr().err.splitlines() == [
        "demo: preparing",
        "demo: passive, 2 seeds: 2.0 s, simple_regret 0.1 (1 of 2 cells)",
        "demo: real, seed 3: 2.5 s (2 of 2 cells)",
    ]
