"""What oracles observe of themselves in a run, as one number for each duel: how often a judge turned round, declined.

It is kept in the run's folder beside what it is observed of, one value for each key: a duel that is met again, by
another cell or after a crash, counts once. Reports read it without making the oracles.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from duelenv.ground.errors import UserError
from duelenv.oracles.services.database import Database

#: In the folder of a run's oracles.
FILE: Final = "figures.sqlite"

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS figures (oracle TEXT, name TEXT, key BLOB, value REAL NOT NULL, "
    "PRIMARY KEY (oracle, name, key)) WITHOUT ROWID"
)


class Figure(NamedTuple):
    """A mean.

    Attributes:
        oracle: Whose.
        name: Of what.
        value: The mean.
        size: Of how many values.
    """

    oracle: str
    name: str
    value: float
    size: int


class Figures:
    """Of all oracles of a run, or of one outside of runs.

    Args:
        folder: Of the run's oracles; None to remember in memory.

    Example:
        >>> figures = Figures()
        >>> figures.note("mine", "late", {b"one": 1.0, b"two": 0.0})
        >>> figures.note("mine", "late", {b"one": 1.0})
        >>> figures.means("mine")
        {'late': 0.5}
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(None if folder is None else folder / FILE, _SCHEMA)

    def note(self, oracle: str, name: str, values: Mapping[bytes, float]) -> None:
        """Write values down by their keys; of a key that is known, the later value stands."""
        if values:
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?)",
                    [(oracle, name, key, float(value)) for key, value in values.items()],
                )

    def means(self, oracle: str) -> dict[str, float]:
        """Find the means of one oracle by their names."""
        with self._database.transaction() as connection:
            return {figure.name: figure.value for figure in _all(connection) if figure.oracle == oracle}


def read_figures(folder: Path) -> list[Figure]:
    """Read the figures of a run's oracles, by oracle and name; none where nothing was written.

    Args:
        folder: Of the run's oracles.

    Raises:
        UserError: The file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=60.0)) as connection:
            return _all(connection)
    except sqlite3.Error as error:
        raise UserError(f"{str(path)!r} cannot be read ({error}): move it away to go on without it") from error


def _all(connection: sqlite3.Connection) -> list[Figure]:
    rows = connection.execute(
        "SELECT oracle, name, AVG(value), COUNT(*) FROM figures GROUP BY oracle, name ORDER BY oracle, name"
    )
    return [Figure(*row) for row in rows]
