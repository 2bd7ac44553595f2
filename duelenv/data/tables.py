"""Parquet, JSON Lines and CSV files as columns of plain Python values; what the columns mean is not known here."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from duelenv.ground.errors import UserError

_LONGEST_FIELD = 2**31 - 1
"""Characters of a CSV field; the reader's own limit, 2**17, is less than some responses."""

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")

Columns = Mapping[str, list[Any]]


class Place(NamedTuple):
    """A row of a table, as error messages name it."""

    path: Path
    row: int

    def __str__(self) -> str:
        return f"{self.path} row {self.row}"


class Table(dict[str, list[Any]]):
    """Equally long columns by their names, each a list of plain Python values.

    Attributes:
        path: The file that they come from.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(columns)
        self.path = path

    @property
    def num_rows(self) -> int:
        """Number of values in every column."""
        return len(next(iter(self.values()), ()))

    def place(self, row: int) -> Place:
        """Return how error messages name a row."""
        return Place(self.path, row)


def read_table(path: str | Path | Table) -> Table:
    """Return the columns of a table file; a table that has been read before comes back as it is.

    Raises:
        UserError: The file is missing, of another kind, empty or broken.
    """
    if isinstance(path, Table):
        return path
    path = Path(path)
    name = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise UserError(f"{path} is of an unknown kind; give a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; give the path of a table")
    table = Table(path, _read_parquet(path) if suffix == ".parquet" else _read_text(path, suffix))
    if not table.num_rows:
        raise UserError(f"{path} holds no rows; give a table with at least two responses to one prompt")
    return table


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as Parquet ({reason}); write the file again") from None
    return {name: columns[name].to_pylist() for name in columns.column_names}


def _read_text(path: Path, suffix: str) -> Columns:
    reader: Callable[[Path, TextIO], Columns] = _read_csv if ".csv" in suffix else _read_json_lines
    opened = gzip.open if suffix.endswith(".gz") else open
    try:
        # newline="" leaves line breaks inside quoted CSV cells alone; utf-8-sig drops a byte order mark.
        with cast(TextIO, opened(path, "rt", encoding="utf-8-sig", newline="")) as lines:
            return reader(path, lines)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); write the file again") from None


def _read_json_lines(path: Path, lines: Iterable[str]) -> Columns:
    records: list[Mapping[str, Any]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path} line {number} is not JSON ({error.msg} at column {error.colno}); "
                "give one JSON object on each line"
            ) from None
        if not isinstance(record, dict):
            raise UserError(
                f"{path} line {number} is a JSON {type(record).__name__}; give one JSON object on each line"
            )
        records.append(record)
        names.update(dict.fromkeys(record))
    return {name: [record.get(name) for record in records] for name in names}


def _read_csv(path: Path, lines: Iterable[str]) -> Columns:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    reader = csv.reader(lines, strict=True)
    try:
        names = next(reader, [])
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"{path} line {reader.line_num} has {len(cells)} cells where the header has {len(names)}; "
                    "quote cells that hold commas or line breaks"
                )
            for name, cell in zip(names, cells, strict=True):
                columns[name].append(cell)
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} is not CSV ({error}); write the file again") from None
    return columns
