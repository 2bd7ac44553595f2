"""The fuse of a run: a count of labels that all cells spend together, and the end of the run when it is reached."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from duelenv.experiments.running.processes import FuseBlown

__all__ = ["Fuse", "start_counting"]


class Fuse:
    """One cell's view of what the run has spent.

    What is kept is no second truth: each start of the run counts anew from the ledgers, so that the file need not be
    safe against a power cut.

    Args:
        path: SQLite file that all cells share.
        cell: Name of the cell.
        limit: Labels that the run may spend.
    """

    def __init__(self, path: Path, cell: str, limit: int) -> None:
        self._path, self._cell, self._limit = path, cell, limit

    def __call__(self, total: int) -> None:
        """Take note of what this cell will have spent, or refuse.

        Raises:
            FuseBlown: The run would have spent more than its limit.
        """
        with closing(_connect(self._path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            others = connection.execute("SELECT SUM(spent) FROM cells WHERE name <> ?", (self._cell,)).fetchone()[0]
            if (others or 0) + total > self._limit:
                connection.execute("ROLLBACK")
                raise FuseBlown(self._cell)
            connection.execute("INSERT OR REPLACE INTO cells VALUES (?, ?)", (self._cell, total))
            connection.execute("COMMIT")


def start_counting(path: Path, spent: Mapping[str, int]) -> None:
    """Begin a run's count.

    Args:
        path: SQLite file that all cells share.
        spent: What each cell has spent so far, by name.
    """
    for name in (path.name, f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)
    with closing(_connect(path)) as connection:
        connection.execute("CREATE TABLE cells (name PRIMARY KEY, spent)")
        connection.executemany("INSERT INTO cells VALUES (?, ?)", spent.items())


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    connection.execute("PRAGMA synchronous=OFF")
    return connection
