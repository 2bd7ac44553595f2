"""What a judge has said, by what it was asked: each verdict is written down as it comes, and paid for once.

Several processes may use one file. Where two were told different things of one question, the first stands for both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from duelenv.oracles.judge.verdicts import Verdict
from duelenv.oracles.services.database import Database

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS verdicts (asked BLOB PRIMARY KEY, win REAL NOT NULL, tie REAL NOT NULL, "
    "said INTEGER NOT NULL) WITHOUT ROWID"
)


class VerdictCache:
    """Verdicts by the digest of what was asked.

    Args:
        path: SQLite file, made when first needed; None to remember in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path, _SCHEMA)

    def known(self, asked: Sequence[bytes]) -> dict[bytes, Verdict]:
        """Look up the verdicts that are there.

        Raises:
            UserError: The file cannot be read.
        """
        with self._database.transaction() as connection:
            found = ((digest, _found(connection, digest)) for digest in asked)
            return {digest: verdict for digest, verdict in found if verdict is not None}

    def keep(self, asked: bytes, verdict: Verdict) -> Verdict:
        """Write a verdict down, and return the one that stands from now on.

        Raises:
            UserError: The file cannot be written.
        """
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?)", (asked, *verdict))
            return _found(connection, asked) or verdict


def _found(connection: sqlite3.Connection, digest: bytes) -> Verdict | None:
    row = connection.execute("SELECT win, tie, said FROM verdicts WHERE asked = ?", (digest,)).fetchone()
    return None if row is None else Verdict(row[0], row[1], bool(row[2]))
