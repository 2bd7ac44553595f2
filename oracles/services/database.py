"""A small SQLite file that threads and processes share; or one in memory, which is forgotten."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from duelenv.ground.errors import UserError
from duelenv.ground.files import on_a_network, refusals_said


class Database:
    """Opened when first needed, by each process for itself.

    What was committed outlives the process. It is on its way to the disk then, and a power cut may take the last of it.

    Args:
        path: The file, made with its folder; None for memory.
        schema: Statements that make what is not there yet.
    """

    def __init__(self, path: Path | None, schema: str) -> None:
        self._path, self._schema = path, schema
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a connection in a transaction that holds off everybody else who writes.

        Raises:
            UserError: The file cannot be used; the transaction has not taken place.
        """
        path = self._path or Path(":memory:")
        with self._lock, refusals_said(path):
            try:
                connection = self._connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise UserError(
                    f"{str(path)!r} cannot be used ({error}): free space on the disk, correct its permissions, or move "
                    "the file away, and run the same command again"
                ) from error

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            if self._path is None:
                opened = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                opened = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=60.0)
            weakref.finalize(self, opened.close)
            if self._path is not None:
                _set_journal(opened, self._path)
            opened.executescript(self._schema)
            self._opened = opened
        return self._opened


#: Seconds in which another process will have made the file that both have just found missing.
_PATIENCE: Final = 10.0


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    # A write-ahead log shares memory between processes, which machines do not.
    journal = "DELETE" if on_a_network(path.parent) else "WAL"
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode={journal}")
            break
        except sqlite3.OperationalError:  # changing it is the one thing for which SQLite does not wait by itself
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")
