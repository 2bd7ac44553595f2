"""`duelenv watch`: what it shows of a run in every state, at every width, and that it leaves the run alone."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from interrupts import stop_after
from rich.console import Console

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.identity import settings_of
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import hold_cell, hold_run
from duelenv.experiments.running.runner import Interrupted, run
from duelenv.experiments.watching.looks import Eye
from duelenv.experiments.watching.table import render, sparkline
from duelenv.ground.looking import look_into

RAW = {
    "name": "seen",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 9, "batch": 2},
    "agents": ["passive", "thompson"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
    "backend": "sequential",
    "label_log": True,
    "budget": {"labels": 18},
}


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Passive is finished; thompson has played 4 of 9 rounds."""
    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 13)
        with pytest.raises(Interrupted):
            run(RunConfig.from_dict(RAW), directory, progress=False)
    return directory


def shown(directory, width=120, now=0.0, **options):
    console = Console(width=width, file=open(os.devnull, "w"), **options)
    folder = RunFolder(directory)
    with console.capture() as captured:
        console.print(render(Eye(folder, settings_of(folder), lambda: now).look(), console))
    return captured.get()


def lines_of(text):
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_an_interrupted_run_shows_how_far_each_cell_is(interrupted):
    lines = lines_of(shown(interrupted))
    assert lines["passive-seeds2"][1:3] == ["9/9", "36"] and lines["passive-seeds2"][-1] == "finished"
    # Four rounds of two contexts for each of two seeds.
    assert lines["thompson-seeds2"][1:3] == ["4/9", "16"] and lines["thompson-seeds2"][-1] == "stopped"
    assert "1 of 2 cells finished, 1 stopped; 52 labels\n" in shown(interrupted)


def test_looking_changes_nothing_in_the_folder(interrupted):
    def state():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in interrupted.rglob("*") if path.is_file()}

    before = state()
    shown(interrupted)
    assert state() == before


def test_a_run_is_watched_while_another_holds_its_locks(interrupted):
    folder = RunFolder(interrupted)
    with hold_run(folder.lock), hold_cell(folder.cell("thompson-seeds2").lock, lambda: False):
        assert lines_of(shown(interrupted))["thompson-seeds2"][-1] == "running"
    assert lines_of(shown(interrupted))["thompson-seeds2"][-1] == "stopped"


def test_rate_and_time_left_are_those_of_this_start(interrupted):
    folder = RunFolder(interrupted).cell("thompson-seeds2")
    folder.progress.write_text(json.dumps({"rounds": 4, "horizon": 9, "figure": "", "labels": 16, "rate": 0.05}))
    with hold_cell(folder.lock, lambda: False):
        line = lines_of(shown(interrupted))["thompson-seeds2"]
    assert line[1:] == ["4/9", "16", "0.05", "2", "min", "running"]  # 5 rounds at 0.05 a second are 100 seconds


def test_open_questions_are_waited_for_once_nothing_moves(interrupted):
    folder = RunFolder(interrupted).cell("thompson-seeds2")
    with closing(sqlite3.connect(folder.path / "ledger.sqlite")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS requests (id, purpose, superseded, times)")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(requests)")]
        values = {"id": "open", "purpose": "duel", "superseded": 0, "times": 1}
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO requests VALUES ({marks})", [values.get(name) for name in columns])
        connection.commit()
    moved = max(path.stat().st_mtime for path in folder.path.iterdir())
    with hold_cell(folder.lock, lambda: False):
        assert "waiting for answers (1 open)" in shown(interrupted, now=moved + 10.0)
        assert "waiting" not in shown(interrupted, now=moved + 1.0)
    assert "waiting" not in shown(interrupted, now=moved + 10.0)  # nobody is there to wait


def test_a_failure_is_shown_by_its_sentence_until_the_cell_begins_again(interrupted):
    folder = RunFolder(interrupted).cell("thompson-seeds2")
    folder.error.write_text("Traceback\n  somewhere\nValueError: no such \x1b[2Jthing\n")
    text = shown(interrupted)
    assert lines_of(text)["thompson-seeds2:"][1:] == ["ValueError:", "no", "such", "\\x1b[2Jthing"]
    assert "1 failed" in text and "\x1b" not in text
    later = folder.error.stat().st_mtime + 5.0
    os.utime(folder.lock, (later, later))
    assert "ValueError" not in shown(interrupted)


def test_why_a_cell_was_refused_stands_below_the_table(interrupted):
    RunFolder(interrupted).cell("thompson-seeds2").refusal.write_text("nobody answered for 600 seconds\n")
    text = shown(interrupted)
    assert "thompson-seeds2: nobody answered for 600 seconds" in text and "1 stopped" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_cells_and_states_are_always_there(interrupted, width):
    text = shown(interrupted, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "passive" in text and "stop" in text


def test_a_sparkline_goes_from_the_least_to_the_largest():
    assert sparkline([0.0, 1.0, 0.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([1.0]) == ""
    assert sparkline([5.0] * 3 + list(range(12))) == "▁▁▂▃▃▄▅▆▆▇██"


def test_once_prints_and_ends_and_a_missing_folder_is_a_sentence(interrupted, tmp_path, capsys):
    assert main(["watch", str(interrupted), "--once"]) == 0
    assert "4/9" in capsys.readouterr().out
    assert main(["watch", str(tmp_path / "nowhere"), "--once"]) == 2
    assert "is not a run directory: nothing is there" in capsys.readouterr().err
    assert main(["watch", str(tmp_path), "--once"]) == 2
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.lock").touch()
    assert main(["watch", str(tmp_path / "new"), "--once"]) == 0
    assert "preparing" in capsys.readouterr().out


def test_what_is_no_ascii_is_left_out_where_the_terminal_cannot_show_it(interrupted):
    words = [sys.executable, "-m", "duelenv.experiments.commands.cli", "watch", str(interrupted)]
    ended = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.isascii() and b"4/9" in ended.stdout


def test_a_database_of_a_stranger_with_a_view_is_not_asked(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as connection:
        connection.execute("CREATE TABLE one (x)")
        assert look_into(tmp_path / "a.sqlite", lambda found: found.execute("SELECT count(*) FROM one").fetchone()) == (
            0,
        )
        connection.execute("CREATE VIEW two AS SELECT * FROM one")
    assert look_into(tmp_path / "a.sqlite", lambda found: 1) is None
    assert look_into(tmp_path / "none.sqlite", lambda found: 1) is None
    assert not (tmp_path / "none.sqlite").exists()


def test_ctrl_c_ends_quietly(interrupted, monkeypatch, capsys):
    from duelenv.experiments.watching import command

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupt)
    assert command.watch(interrupted) == 130
    assert capsys.readouterr().err == ""
