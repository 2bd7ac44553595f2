"""Python files of the user's: what runs is what they hold."""

from __future__ import annotations

import os
import sys

import pytest

from duelenv import UserError
from duelenv.experiments.config.modules import load_function, load_modules


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


BEFORE = "import duelenv.agents\n\n\ndef part():\n    return WORSE\n\n\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{BEFORE}part()\n", "NameError: name 'WORSE' is not defined, in line 5 of"),
        ("one = 1\ndef answer(:\n", "SyntaxError: invalid syntax, in line 2 of"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all', in line 1 of"),
        ("raise ValueError('one\\ntwo')\n", "ValueError: one, in line 1 of"),
        (
            "import duelenv.agents\nduelenv.agents.register('passive', object)\n",
            "agent 'passive' is registered already; choose another name, in line 2 of",
        ),
    ],
)
def test_what_a_file_raises_as_it_is_loaded_is_a_sentence_with_its_line(file, source, message):
    file.write_text(source)
    with pytest.raises(UserError) as caught:
        load_modules([str(file)])
    assert (
        str(caught.value)
        == f"{str(file)!r}, which 'modules' names, cannot be loaded: {message} {str(file)!r}; correct it"
    )
    assert caught.value.__cause__ is not None


def test_a_package_of_ones_own_is_told_its_line_too(tmp_path, monkeypatch):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("two = 2\none = three\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"NameError: name 'three' is not defined, in line 2 of '.*own_package/__init__.py'"
    ):
        load_modules(["own_package"])


def test_a_folder_without_code_is_no_module(tmp_path, monkeypatch):
    (tmp_path / "only_data").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^'only_data' is a folder without code of its own: name a Python file in it"):
        load_modules(["only_data"])
