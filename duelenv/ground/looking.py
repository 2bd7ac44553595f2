"""Looking into an SQLite file that another process may be writing: nothing is written, and nobody is kept waiting."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

Found = TypeVar("Found")


def look_into(path: Path, ask: Callable[[sqlite3.Connection], Found]) -> Found | None:
    """Ask a database something, for people who watch; None where it is missing or cannot be read at this moment.

    Without a write-ahead log beside it, the file is read as it lies, without any of SQLite's locks. A question that
    meets a write then fails or sees half of it, so that nothing may be decided by the answer.

    Args:
        path: The file.
        ask: What to ask a connection to it.
    """
    logged = path.with_name(f"{path.name}-wal").exists()
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'' if logged else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=0.0)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")  # a file may be a stranger's
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index')").fetchone():
                return None  # a view may run without end
            return ask(connection)
    except sqlite3.Error:
        return None
