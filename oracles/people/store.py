"""The SQLite file of a desk: its tables, its transactions, and how texts stand in it."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from duelenv.ground.errors import UserError

VERSION: Final = 1
"""Of the tables below; a file of another version is refused."""

#: Seconds to wait for somebody else's transaction. Each is a few rows.
_PATIENCE: Final = 60.0

# `questions.given` counts answers that are not undone and no skips; it is there for the index alone, by which the next
# question is found without a look at those that are done. `win` and `tie` are what the run was told, once `settled`.
_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE questions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    prompt BLOB NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    wanted INTEGER NOT NULL,
    askers INTEGER NOT NULL,
    given INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    win REAL,
    tie REAL
);
CREATE INDEX open_questions ON questions (number) WHERE settled = 0 AND askers > 0 AND given < wanted;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    question INTEGER NOT NULL REFERENCES questions (number),
    annotator TEXT NOT NULL,
    verdict TEXT NOT NULL,
    win REAL,
    tie REAL NOT NULL,
    swapped INTEGER NOT NULL,
    seconds REAL,
    at REAL NOT NULL,
    undone REAL
);
CREATE UNIQUE INDEX one_answer ON answers (question, annotator) WHERE undone IS NULL AND verdict != 'skip';
CREATE INDEX of_annotator ON answers (annotator, number);
CREATE TABLE shown (
    question INTEGER NOT NULL,
    annotator TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (question, annotator)
) WITHOUT ROWID;
CREATE TABLE posts (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Store:
    """A desk's file. Every use opens it anew, so that threads, processes and forks share it without a thought.

    Args:
        path: The file; made with its folder where it is absent.

    Raises:
        UserError: It is no desk, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.writing() as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                    if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                        raise self._no_desk()
                    for statement in _TABLES.split(";"):
                        connection.execute(statement)
                    made = [("version", VERSION), ("key", secrets.token_bytes(16)), ("made", time.time())]
                    connection.executemany("INSERT INTO meta VALUES (?, ?)", made)
                found = dict(connection.execute("SELECT name, value FROM meta"))
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(
                    f"cannot open the desk {str(path)!r} ({error}); give a file that can be written"
                ) from error
            raise self._no_desk() from error
        if found.get("version") != VERSION:
            raise UserError(
                f"{str(path)!r} is a desk of version {found.get('version')}, expected {VERSION}; "
                "use the duelenv that made it"
            )
        self.key: bytes = found["key"]

    def _no_desk(self) -> UserError:
        return UserError(f"{str(self.path)!r} is no desk of questions for people; give another file")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that sees one state of the desk, whatever others write."""
        with self._connection() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that alone may write; what it wrote is on the disk when the block has ended."""
        with self._connection() as connection, _transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # in this mode, what makes a commit outlast a power cut
            yield connection


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def stored(text: str) -> bytes:
    """Write a text as it is kept: half a surrogate pair, which UTF-8 cannot hold, comes back as it was."""
    return text.encode("utf-8", "surrogatepass")


def restored(content: bytes) -> str:
    """Read the text that was kept."""
    return content.decode("utf-8", "surrogatepass")
