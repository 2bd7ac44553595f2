"""Where a ledger lies on disk: an SQLite file and a plain copy of it, either of which restores the other. No meaning.

What is in the tables and when is decided by `duelenv.labels.ledger`. Every commit is on the disk before it returns
(`synchronous=FULL`). The copy is a text file with one line a commit; it is not waited for, since it is there for
another fault than a power cut: a file that was cut, emptied, changed or deleted.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from duelenv.ground.errors import UserError
from duelenv.ground.files import atomic, on_a_network

Value = int | float | str | bytes | None
Row = tuple[Value, ...]
Changes = Mapping[str, Sequence[Row]]
"""Rows to write, by table; a row replaces the one with the same key."""

#: Columns of each table, and how many of them, from the left, are its key.
TABLES: Final[Mapping[str, tuple[tuple[str, ...], int]]] = {
    "meta": (("name", "value"), 1),
    "texts": (("number", "text", "digest"), 1),
    "requests": (("id", "purpose", "round", "row", "prompt", "first", "second", "times", "superseded"), 1),
    "answers": (("id", "round", "win", "tie"), 1),
    "rounds": (("number",), 1),
    "duels": (
        ("round", "row", "first_arm", "second_arm", "prompt", "first", "second", "asked", "label", "told"),
        2,
    ),
}

_INDICES: Final = {
    "texts_by_digest": "texts (digest)",
    "requests_by_round": "requests (purpose, round)",
    "answers_by_round": "answers (round)",
}

DATABASE: Final = "ledger.sqlite"
COPY: Final = "ledger.copy"

#: Written into the file's header, so that a later form can tell an earlier one.
_FORM: Final = 1


class LedgerFile:
    """The tables of one ledger, open for reading and writing by the only process that writes them.

    A file that is damaged or missing is made anew from the other; the damaged one is kept beside it under another name.

    Args:
        folder: Holds the two files; made if absent.

    Attributes:
        connection: For queries.
        healed: What was made good on opening, as sentences.
        broken: Whether a write failed, so that no other may follow.

    Raises:
        UserError: Both files are damaged, or the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path, self._copy_path = folder / DATABASE, folder / COPY
        self.healed: list[str] = []
        self.broken = False
        with _disk_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            copy = _read_copy(self._copy_path)
            sound = _is_sound(self._path)
            if sound is False or (sound is None and not copy.untouched):
                self._rebuild(copy, damaged=sound is False)
            self.connection = _connect(self._path)
            _make_tables(self.connection)
            self._commits = _commits(self.connection)
            if copy.usable and copy.last > self._commits:
                self._catch_up(copy)
            if copy.last != self._commits or not copy.clean:
                self._write_copy()
            self._copy = self._copy_path.open("ab", buffering=0)

    def _rebuild(self, copy: _Copy, *, damaged: bool) -> None:
        """Make the database anew from the copy."""
        if not copy.usable:
            what = "damaged" if damaged else "missing"
            raise UserError(
                f"{str(self._path)!r}, which holds what was asked and answered, is {what}, and so is its copy "
                f"{COPY!r}: put one of them back from a backup, or remove the folder {str(self._folder)!r} to ask anew"
            )
        if damaged:
            _set_aside(self._path)
        for rest in ("-wal", "-shm", "-journal"):
            self._path.with_name(DATABASE + rest).unlink(missing_ok=True)
        new = self._path.with_name(f".{DATABASE}.tmp")
        new.unlink(missing_ok=True)
        with closing(_connect(new, journal="DELETE")) as connection:
            _make_tables(connection)
            _apply(connection, copy.lines)
        new.replace(self._path)
        what = "damaged" if damaged else "missing"
        self.healed.append(f"{str(self._path)!r} was {what}: made good from its copy, nothing is lost")

    def _catch_up(self, copy: _Copy) -> None:
        """Take from the copy what the database lost."""
        _apply(self.connection, copy.after(self._commits))
        self._commits = copy.last
        self.healed.append(f"{str(self._path)!r} lacked its last writings: made good from its copy, nothing is lost")

    def _write_copy(self) -> None:
        """Write the copy anew, as one line."""
        whole = {
            table: [tuple(row) for row in self.connection.execute(f"SELECT {', '.join(columns)} FROM {table}")]
            for table, (columns, _) in TABLES.items()
        }
        with atomic(self._copy_path) as stream:
            stream.write(_line(self._commits, whole, base=True))

    def write(self, changes: Changes, *, precious: bool = False) -> None:
        """Commit rows to both files.

        Args:
            changes: Rows by table.
            precious: Whether they go into the copy even where the database refuses them, so that they are found there.

        Raises:
            UserError: The disk refuses.
        """
        if self.broken:
            raise UserError(
                f"{str(self._path)!r} could not be written before: free space on the disk and run the same command "
                "again"
            )
        number = self._commits + 1
        line = _line(number, changes)
        with _disk_errors(self._path):
            try:
                _apply(self.connection, [(number, changes)])
            except BaseException:
                self.broken = True
                if precious:
                    self._copy.write(line)
                raise
            self._commits = number
            self.broken = True  # unless the copy follows
            written = self._copy.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes of {COPY!r} could be written")
            self.broken = False

    def close(self) -> None:
        """Close both files."""
        self.connection.close()
        self._copy.close()


def read(folder: Path) -> sqlite3.Connection | None:
    """Return the tables of a ledger as they stand, in memory, whoever writes them; None where there are none.

    Raises:
        UserError: Both files are damaged, or one is and the other missing.
    """
    copy, sound = _read_copy(folder / COPY), _is_sound(folder / DATABASE)
    if sound is None and copy.untouched:
        return None
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if sound:
        with closing(_connect(folder / DATABASE)) as connection:
            connection.backup(memory)
        done = _commits(memory)
    elif copy.usable:
        _make_tables(memory)
        done = 0
    else:
        raise UserError(
            f"{str(folder / DATABASE)!r} and its copy {COPY!r} are damaged or missing: put one of them back from a "
            "backup"
        )
    if copy.usable:
        _apply(memory, copy.after(done))
    return memory


def _connect(path: Path, journal: str | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    # A write-ahead log takes one wait for the disk a commit and lets others read, but shares memory between processes,
    # which machines do not.
    journal = journal or ("DELETE" if on_a_network(path.parent) else "WAL")
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA trusted_schema=OFF")  # a file may be a stranger's
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == _FORM:
        return
    with _transaction(connection):
        for table, (columns, key) in TABLES.items():
            names, keys = ", ".join([*columns, "crc"]), ", ".join(columns[:key])
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({names}, PRIMARY KEY ({keys}))")
        for name, indexed in _INDICES.items():
            connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {indexed}")
        connection.execute(f"PRAGMA user_version={_FORM}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all statements of a block, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the disk's first word is the one to be heard
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, lines: Sequence[tuple[int, Changes]]) -> None:
    """Write rows; a row replaces the one with its key. Writing a line twice is writing it once."""
    if not lines:
        return
    with _transaction(connection):
        for _, changes in lines:
            for table, rows in changes.items():
                marks = ", ".join("?" * (len(TABLES[table][0]) + 1))
                connection.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES ({marks})", [(*row, _crc(row)) for row in rows]
                )
        row = ("commits", lines[-1][0])
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (*row, _crc(row)))


def _commits(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
    return 0 if found is None else int(found[0])


def _is_sound(path: Path) -> bool | None:
    """Tell whether every row of a database is as it was written; None where there is no database."""
    if not path.exists():
        return None
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return None
    try:
        with closing(_connect(path)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                # Made, and killed before the tables were; or something else altogether.
                return None if not connection.execute("SELECT name FROM sqlite_schema").fetchall() else False
            # Views and triggers are nothing that we write, and may run without end or change what is read.
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index')").fetchone():
                return False
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return False
            return all(
                row[-1] == _crc(row[:-1]) for table in TABLES for row in connection.execute(f"SELECT * FROM {table}")
            )
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
            raise
        return False


def _crc(row: Sequence[Value]) -> int:
    return zlib.crc32(repr(tuple(row)).encode("utf-8"))


# The copy ------------------------------------------------------------------------------------------------------------


def _line(number: int, changes: Changes, *, base: bool = False) -> bytes:
    rows = {table: [[_packed(value) for value in row] for row in rows] for table, rows in changes.items()}
    body = json.dumps([number, base, rows]).encode("ascii")
    return f"{zlib.crc32(body):08x} ".encode("ascii") + body + b"\n"


class _Copy(NamedTuple):
    """What can be read of a copy.

    Attributes:
        lines: Number of the commit and its rows, in order.
        whole: Whether these are all that were ever finished.
        torn: Whether a last line, cut short, follows: a write that was never finished.
    """

    lines: list[tuple[int, Changes]]
    whole: bool
    torn: bool

    @property
    def last(self) -> int:
        """Number of the last commit in it."""
        return self.lines[-1][0] if self.lines else 0

    @property
    def usable(self) -> bool:
        """Whether a database can be made of it."""
        return self.whole and bool(self.lines)

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever written."""
        return self.whole and not self.lines and not self.torn

    @property
    def clean(self) -> bool:
        """Whether lines can be added."""
        return self.whole and not self.torn

    def after(self, number: int) -> list[tuple[int, Changes]]:
        """Return the lines of later commits."""
        return [line for line in self.lines if line[0] > number]


def _read_copy(path: Path) -> _Copy:
    if not path.exists():
        return _Copy([], whole=True, torn=False)
    if not path.is_file():
        return _Copy([], whole=False, torn=False)
    *complete, rest = path.read_bytes().split(b"\n")
    lines: list[tuple[int, Changes]] = []
    for raw in complete:
        line = _read_line(raw)
        follows = line is not None and (line.number == lines[-1][0] + 1 if lines else line.base or line.number == 1)
        if line is None or not follows:
            return _Copy(lines, whole=False, torn=False)
        lines.append((line.number, line.changes))
    return _Copy(lines, whole=True, torn=bool(rest))


class _Line(NamedTuple):
    """One commit in the copy; a base holds everything up to it."""

    number: int
    base: bool
    changes: Changes


def _read_line(raw: bytes) -> _Line | None:
    """Return a line, or None where it is not as it was written."""
    try:
        crc, body = raw[:8], raw[9:]
        if int(crc, 16) != zlib.crc32(body):
            return None
        number, base, rows = json.loads(body)
        changes = {name: [tuple(_unpacked(value) for value in row) for row in rows[name]] for name in rows}
        return _Line(number, base, changes)
    except (ValueError, TypeError):
        return None


def _packed(value: Value) -> Any:
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def _unpacked(value: Any) -> Value:
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


# Faults --------------------------------------------------------------------------------------------------------------


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UserError(
            f"cannot write {str(path)!r} ({error}): nothing that was answered before is lost; free space on the disk, "
            "or correct its permissions, and run the same command again"
        ) from error


def _set_aside(path: Path) -> None:
    """Keep a damaged file under another name."""
    path.replace(next(name for name in _names(path) if not name.exists()))


def _names(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield path.with_name(f"{path.name}.damaged-{number}")
        number += 1
