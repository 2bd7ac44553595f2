"""What a server has answered, by the ids of duels: asked again, it answers from here. Asks nobody itself."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.remote.wire import Duel, texts_digest
from duelenv.oracles.sources import Answer

__all__ = ["Conflict", "Question", "Record"]


class Question(NamedTuple):
    """A duel on this side of the connection.

    Attributes:
        duel: As it was asked.
        texts: Digest of its texts: what is asked, whatever the id.
    """

    duel: Duel
    texts: str

    @property
    def id(self) -> str:
        """The duel's."""
        return self.duel.id

    @classmethod
    def of(cls, duel: Duel) -> Question:
        """Take a duel in."""
        return cls(duel, texts_digest(duel.prompt, duel.first, duel.second))


class Conflict(Exception):
    """An id that was used for other texts.

    Attributes:
        id: The id.
    """

    def __init__(self, id_: str) -> None:
        super().__init__(f"id {id_!r} was used for other texts; give every question an id of its own")
        self.id = id_


class Record:
    """Answers by id, with the digest of the texts that they are answers to. Safe to be used from several threads.

    Args:
        path: SQLite file, which keeps everything and outlives the server; None for memory.
        oracle: Names the oracle and its settings: a file holds the answers of one oracle.
        keep: Answers that memory keeps at most; the oldest are forgotten, and asked for again.

    Raises:
        UserError: The file is no record, holds another oracle's answers, or is in use.
    """

    def __init__(self, path: Path | None, *, oracle: str, keep: int = 500_000) -> None:
        self._keep = checks.integer("keep", keep, low=1) if path is None else None
        self._lock = threading.Lock()
        self._connection = _opened(path, oracle)

    def known(self, questions: Iterable[Question]) -> dict[str, Answer]:
        """Return the answers that are there, by id.

        Raises:
            Conflict: An id was used for other texts.
        """
        found: dict[str, Answer] = {}
        with self._lock:
            for question in questions:
                row = self._connection.execute(
                    "SELECT texts, win, tie FROM answers WHERE id = ?", (question.id,)
                ).fetchone()
                if row is None:
                    continue
                if row[0] != question.texts:
                    raise Conflict(question.id)
                found[question.id] = Answer(question.id, math.nan if row[1] is None else row[1], row[2])
        return found

    def put(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Write answers down, one for each question; on the disk when this returns."""
        rows = [
            (question.id, question.texts, None if math.isnan(answer.win) else answer.win, answer.tie)
            for question, answer in zip(questions, answers, strict=True)
        ]
        with self._lock, self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO answers (id, texts, win, tie) VALUES (?, ?, ?, ?)", rows
            )
            if self._keep is not None:
                self._connection.execute(
                    "DELETE FROM answers WHERE place <= (SELECT MAX(place) FROM answers) - ?", (self._keep,)
                )

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _opened(path: Path | None, oracle: str) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False, timeout=1.0)
    try:
        # One server a file: with two, each would ask what the other has asked.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
                "texts TEXT NOT NULL, win REAL, tie REAL NOT NULL)"
            )
            connection.execute("CREATE TABLE IF NOT EXISTS oracle (name TEXT NOT NULL)")
            found = connection.execute("SELECT name FROM oracle").fetchone()
            if found is None:
                connection.execute("INSERT INTO oracle VALUES (?)", (oracle,))
    except sqlite3.Error as error:
        connection.close()
        raise UserError(
            f"'--record' names {str(path)!r}, which cannot be used ({error}): another server has it, or it is no record"
        ) from error
    if found is not None and found[0] != oracle:
        connection.close()
        raise UserError(
            f"'--record' names {str(path)!r}, which holds answers of {found[0]}, expected those of {oracle}; "
            "give every oracle a file of its own"
        )
    return connection
