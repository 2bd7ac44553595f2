"""Faults on purpose: files that are damaged, and calls that fail for want of space in the process that asks for it.

Only for `duelenv bench faults` and the tests: nothing of a run imports this.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DAMAGES", "WRITES", "damage_file", "install_fault"]

DAMAGES = ("cut to half", "emptied", "one bit flipped", "deleted")
"""What happens to a file."""

WRITES = {
    "open": "a file cannot be opened",
    "write": "a write fails",
    "fsync": "an fsync fails",
    "replace": "a replace fails",
    "commit": "an SQLite commit fails",
    "size": "no file can grow",
}
"""Calls of which one fails for want of space, and what the table calls that: opening for writing, writing bytes,
`os.fsync`, `os.replace`, and what SQLite would have made durable. With "size" no file can grow beyond so many blocks of
4096 bytes and one more, which is what a full disk looks like to those who do not write through Python.
"""


def install_fault(kind: str, number: int, folder: str, note: str, deadly: bool = False) -> None:
    """Let the call of one kind with this number, from 1, within `folder` fail in this process, or kill the process.

    It is then written into the file `note`; with number 0, which none has, the number of calls so far is.
    """
    import builtins
    import io
    import sqlite3

    if kind == "size":
        import resource

        most = (number + 1) * 4096 if number else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        Path(note).write_text("1", encoding="ascii")
        return
    count = 0
    true_open, true_write, true_fsync, true_replace = os.open, os.write, os.fsync, os.replace
    true_file = io.open
    root = os.path.realpath(folder)

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        return os.path.realpath(os.fsdecode(path)).startswith(root + os.sep)

    def fails() -> bool:
        nonlocal count
        count += 1
        if number not in (0, count):
            return False
        stream = true_open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        true_write(stream, str(count).encode("ascii"))
        os.close(stream)
        if deadly and number == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return number == count

    def full(path: Any = None) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    class File:
        """An open file whose writing may fail."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, data: Any) -> Any:
            if fails():
                raise full()
            return self._stream.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def __enter__(self) -> File:
            return self

        def __exit__(self, *_: object) -> None:
            self._stream.close()

        def __iter__(self) -> Any:
            return iter(self._stream)

    def open_file(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        writes = any(letter in mode for letter in "wax+") and not isinstance(file, int) and inside(file)
        if kind == "open" and writes and fails():
            raise full(file)
        stream = true_file(file, mode, *rest, **more)
        return File(stream) if kind == "write" and writes else stream

    def open_low(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and "dir_fd" not in more and inside(path) and fails():
            raise full(path)
        return true_open(path, flags, *rest, **more)

    def write(stream: int, data: Any) -> int:
        if inside(stream) and fails():
            raise full()
        return true_write(stream, data)

    def fsync(stream: int) -> None:
        if fails():
            raise full()
        true_fsync(stream)

    def replace(source: Any, target: Any, **more: Any) -> None:
        if inside(target) and fails():
            raise full(target)
        true_replace(source, target, **more)

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *rest: Any) -> Any:
            word = sql.split(None, 1)[0].upper() if sql.strip() else ""
            changes = word in ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE")
            if (word in ("COMMIT", "END") or (changes and not self.connection.in_transaction)) and fails():
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *rest)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, *rest: Any) -> Any:
            return self.cursor().execute(sql, *rest)

        def commit(self) -> None:
            if self.in_transaction and fails():
                raise sqlite3.OperationalError("database or disk is full")
            super().commit()

        def __exit__(self, kind: Any, value: Any, trace: Any) -> Any:
            if kind is None and self.in_transaction and fails():
                self.rollback()
                raise sqlite3.OperationalError("database or disk is full")
            return super().__exit__(kind, value, trace)

    if kind in ("open", "write"):
        builtins.open = io.open = open_file
    if kind == "open":
        os.open = open_low
    elif kind == "write":
        os.write = write
    elif kind == "fsync":
        os.fsync = fsync  # type: ignore[assignment]
    elif kind == "replace":
        os.replace = replace  # type: ignore[assignment]
    elif kind == "commit":
        true_connect = sqlite3.connect
        sqlite3.connect = lambda *words, **more: true_connect(*words, **{"factory": Connection, **more})


def damage_file(path: Path, damage: str, generator: np.random.Generator) -> None:
    """Damage a file in place."""
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut to half":
        path.write_bytes(content[: len(content) // 2])
    else:
        position, bit = int(generator.integers(max(len(content), 1))), int(generator.integers(8))
        changed = bytearray(content)
        if changed:
            changed[position] ^= 1 << bit
        path.write_bytes(bytes(changed))
