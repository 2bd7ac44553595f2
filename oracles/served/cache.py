"""Scores that are there already, so that none is computed or paid twice: in memory, and in a run in a file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from duelenv.ground.errors import UserError

#: Values of one SQL statement; SQLite takes 999 at least.
_MOST: Final = 900


class Scores:
    """Utilities by what was asked, where and how.

    Args:
        owner: All that the score of a text depends on: server, model, api, how it is written and read.
        path: SQLite file, shared by all cells and later starts of a run; None to remember in this process only.
    """

    def __init__(self, owner: Mapping[str, object], path: Path | None = None) -> None:
        self._owner = json.dumps(dict(owner), sort_keys=True, default=str)
        self._path = path
        self._known: dict[bytes, float] = {}

    def key(self, prompt: str, response: str) -> bytes:
        """Name one response to a prompt."""
        told = json.dumps([self._owner, prompt, response]).encode()
        return hashlib.blake2b(told, digest_size=16).digest()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Find those of the scores that are known."""
        keys = list(keys)
        missing = [key for key in keys if key not in self._known]
        if missing and self._path is not None and self._path.exists():
            with closing(self._open(self._path)) as connection:
                for start in range(0, len(missing), _MOST):
                    some = missing[start : start + _MOST]
                    marks = ",".join("?" * len(some))
                    self._known.update(
                        connection.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", some)
                    )
        return {key: self._known[key] for key in keys if key in self._known}

    def keep(self, scores: Mapping[bytes, float]) -> None:
        """Remember scores; what is there stays."""
        for key, score in scores.items():
            self._known.setdefault(key, score)
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open(self._path)) as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", scores.items())

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60.0)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL NOT NULL)")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise UserError(
                f"cannot read the scores in {str(path)!r} ({error}); move the file away, and they are asked for again"
            ) from error
        return connection
