"""What a person sees: bars on a terminal, lines in a log."""

import json
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from duelenv.experiments.config.cell import Cell, CellReport
from duelenv.experiments.folder.standing import read_standing
from duelenv.experiments.running import progress as progress_module
from duelenv.experiments.running.progress import Progress


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


WHOLE = b'{"rounds": 30, "horizon": 60, "figure": "win_rate 0.612"}'


@pytest.mark.parametrize(
    "content",
    [
        *(WHOLE[:length] for length in range(len(WHOLE))),
        *(b"null", b"3", b"[]", b"{}", b'"text"', b"\xff\xfe", b"\0\0", b"[" * 100_000, b"1" * 5_000),
        b'{"rounds": 30}',
        b'{"rounds": null, "horizon": 60, "figure": ""}',
        b'{"rounds": "30", "horizon": "60", "figure": ""}',
        b'{"rounds": true, "horizon": 60, "figure": ""}',
        b'{"rounds": 3.5, "horizon": NaN, "figure": ""}',
        b'{"rounds": -1, "horizon": 60, "figure": ""}',
        b'{"rounds": 1, "horizon": 1' + b"0" * 400 + b', "figure": ""}',
    ],
)
def test_a_progress_file_that_cannot_be_read_is_passed_over(tmp_path, content):
    for name, written in (("a", WHOLE), ("b", content)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.json").write_bytes(written)
    assert read_standing(tmp_path / "b" / "progress.json") is None
    with Progress("demo", 2, 0, [tmp_path / "a", tmp_path / "b", tmp_path / "c"], True) as progress:
        progress.note("demo: preparing")
        progress._refresh()
        assert (progress._bar.n, progress._bar.total) == (30, 180)
        # What was known of a cell stays.
        (tmp_path / "b" / "progress.json").write_bytes(WHOLE)
        progress._refresh()
        (tmp_path / "b" / "progress.json").write_bytes(content)
        progress._refresh()
        assert (progress._bar.n, progress._bar.total) == (60, 180)


@pytest.mark.parametrize("figure", ["", "win_rate", "two words 0.5", 3, None, ["a", "b"], {"a": 1}])
def test_a_figure_that_is_none_is_not_shown(tmp_path, figure, capsys):
    (tmp_path / "progress.json").write_text(json.dumps({"rounds": 90, "horizon": 60, "figure": figure}))
    with Progress("demo", 1, 0, [tmp_path], True) as progress:
        progress.note("demo: preparing")
        progress._refresh()  # more rounds than there are, too
        assert progress._bar.postfix in (None, "")


def test_the_thread_that_follows_outlives_broken_files(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "_POLL_SECONDS", 0.005)
    path = tmp_path / "progress.json"
    with Progress("demo", 1, 0, [tmp_path], True) as progress:
        progress.note("demo: preparing")
        for content in (b"", b"{", b"[]", WHOLE):
            path.write_bytes(content)
            time.sleep(0.05)
            assert progress._thread.is_alive()
        path.unlink()
        path.mkdir()
        time.sleep(0.05)
        assert progress._thread.is_alive()


def test_nothing_that_a_terminal_obeys_is_passed_on(tmp_path, capsys):
    (tmp_path / "progress.json").write_text(json.dumps({"rounds": 1, "horizon": 2, "figure": "\x1b[2Jx\x9b 0\u202e"}))
    with Progress("de\x1bmo", 1, 0, [tmp_path], True) as progress:
        progress.note("a\x1b[31m\nb")
        progress._refresh()
        assert progress._bar.postfix == rf"{tmp_path.name} \x1b[2Jx\x9b 0\u202e"
        assert progress._bar.desc.startswith(r"de\x1bmo: 0/1 cells")
    assert r"a\x1b[31m" + "\nb\n" in capsys.readouterr().err
    with Progress("de\x1bmo", 1, 0, [], None) as progress:
        progress.finished(CellReport(Cell("a\x07", (0,)), 1.0, "x\x9b 1"))
    assert capsys.readouterr().err == r"de\x1bmo: a\x07, seed 0: 1.0 s, x\x9b 1 (1 of 1 cells)" + "\n"


class Widget:
    """As much of a widget as tqdm touches."""

    def __init__(self, children=(), **settings):
        self.children, self.value, self.bar_style = list(children), "", ""
        self.layout, self.style = SimpleNamespace(), SimpleNamespace(bar_color=None)
        self.__dict__.update(settings)


@pytest.fixture
def notebook(monkeypatch):
    """A process that looks like a notebook's to tqdm; what it displays."""
    shown = []
    made = {
        "ipykernel.zmqshell": {},
        "IPython": {"get_ipython": lambda: None},
        "IPython.display": {"display": shown.append},
        "ipywidgets": {
            "HTML": type("HTML", (Widget,), {}),
            "HBox": type("HBox", (Widget,), {}),
            "FloatProgress": Widget,
        },
    }
    for name, content in made.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):  # which choose when they are imported
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield shown
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        sys.modules.pop(name, None)


def test_a_notebook_gets_a_bar_and_nothing_on_standard_error(notebook, folders, capsys):
    with Progress("demo", 3, 0, folders, None) as progress:
        progress.note("demo: preparing")
        progress._refresh()
        (container,) = notebook
        words, bar, rest = container.children
        assert (bar.value, bar.max) == (40, 180)
        assert words.value.replace("\u2007", " ").startswith("demo: 0/3 cells")
        assert "40/180 rounds" in rest.value.replace("\u2007", " ")
        assert "passive-seed0 win_rate 0.612" in rest.value.replace("\u2007", " ")
        progress.note("demo: a note")
    assert (bar.value, bar.bar_style) == (180, "success")
    captured = capsys.readouterr()
    assert captured.out.splitlines()[:2] == ["demo: preparing", "demo: a note"]
    assert captured.err == ""


def test_who_wants_no_progress_hears_only_what_is_not_to_be_missed(folders, capsys):
    with Progress("demo", 3, 1, folders, False) as progress:
        progress.advance("demo: preparing")
        progress.finished(CellReport(Cell("passive", (0,)), 2.0, ""))
        progress.note("demo: 'thompson-seed0' failed; the others go on")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "demo: 'thompson-seed0' failed; the others go on\n"


def test_a_notebook_is_as_quiet(notebook, folders, capsys):
    with Progress("demo", 3, 0, folders, False) as progress:
        progress.finished(CellReport(Cell("passive", (0,)), 2.0, ""))
    assert notebook == []
    assert capsys.readouterr().out == ""
