"""Python files of the user's: what runs is what they hold."""

from __future__ import annotations

import os
import sys

import pytest

from duelenv.experiments.config.modules import load_function


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    yield path
    for name in [name for name in sys.modules if name.startswith("duelenv_run_mine_")]:
        del sys.modules[name]


def test_a_file_changed_within_a_second_runs_as_it_stands(file, monkeypatch):
    """Of the same size and time of change, as an editor's two saves or a copy that keeps times leave it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    said = []
    for number in (1, 2, 1):
        file.write_text(f"def answer():\n    return {number}\n")
        os.utime(file, (1e9, 1e9))
        said.append(load_function(str(file), "answer", "modules")())
    assert said == [1, 2, 1]
    assert [path.name for path in file.parent.iterdir()] == ["mine.py"]


def test_an_error_of_a_file_points_at_its_line(file):
    file.write_text("def answer():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        load_function(str(file), "answer", "modules")()
    last = caught.traceback[-1]
    assert (last.path, last.lineno) == (file, 1)
    assert str(last.statement).strip() == "return 1 / 0"
