"""A file that threads and processes share, and the figures that are kept in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from duelenv.ground.errors import UserError
from duelenv.oracles.services.database import Database
from duelenv.oracles.services.figures import FILE, Figure, Figures, read_figures

ADDING = """
import sys
from pathlib import Path
from duelenv.oracles.services.spending import Cost, Purse
purse = Purse(record=Path(sys.argv[1]))
for _ in range(50):
    with purse.reserving(Cost(10, 1.0)) as reservation:
        reservation.settle(Cost(7, 0.5))
"""


def test_processes_that_begin_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    from duelenv.oracles.services.spending import Cost, Purse

    path = tmp_path / "new" / "purse.sqlite"
    started = [subprocess.Popen([sys.executable, "-c", ADDING, str(path)]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert Purse(record=path).spent == Cost(3 * 50 * 7, 3 * 50 * 0.5)


def test_what_raises_has_not_happened(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite", "CREATE TABLE IF NOT EXISTS t (v)")

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.transaction() as connection:
        assert connection.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)


def test_a_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="cannot be used"):
        Figures(tmp_path).note("j", "turned", {b"1": 1.0})
    with pytest.raises(UserError, match="cannot be read"):
        read_figures(tmp_path)


def test_each_key_counts_once_and_by_its_last_value(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == []
    one, other = Figures(tmp_path), Figures(tmp_path)
    one.note("j", "turned", {b"1": 1.0, b"2": 0.0})
    other.note("j", "turned", {b"1": 1.0, b"3": 0.0})
    other.note("j", "declined", {b"1": 1.0})
    one.note("j", "declined", {b"1": 0.0})
    one.note("k", "turned", {})
    assert read_figures(tmp_path) == [Figure("j", "declined", 0.0, 1), Figure("j", "turned", pytest.approx(1 / 3), 3)]
    assert one.means("j") == {"declined": 0.0, "turned": pytest.approx(1 / 3)}
