"""Files, and tables in memory, as columns of plain Python values; what the columns mean is not known here.

Files are Parquet, Arrow, JSON Lines, JSON arrays, CSV and tab-separated text, the text ones also gzipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from duelenv.ground.errors import UserError

_LONGEST_FIELD = 2**31 - 1
"""Characters of a CSV field; the reader's own limit, 2**17, is less than some responses."""

_TEXT_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
SUFFIXES = (".parquet", *(f"{suffix}{packed}" for suffix in _TEXT_SUFFIXES for packed in ("", ".gz")), ".arrow")

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
        notes: One sentence for everything that was guessed about the file.
    """

    def __init__(self, path: Path, columns: Columns, notes: Sequence[str] = ()) -> None:
        super().__init__(columns)
        self.path = path
        self.notes = tuple(notes)

    @property
    def num_rows(self) -> int:
        """Number of values in every column."""
        return len(next(iter(self.values()), ()))

    def place(self, row: int) -> Place:
        """Return how error messages name a row."""
        return Place(self.path, row)


def read_table(source: Any) -> Table:
    """Return the columns of a table.

    Args:
        source: The path of a file; a table that has been read before, which comes back as it is; or one in memory:
            columns by name, rows as mappings, a `datasets.Dataset`, an Arrow table or a pandas data frame.

    Raises:
        UserError: The file is missing, of another kind, empty or broken; or it is no table.
    """
    if isinstance(source, Table):
        return source
    if not isinstance(source, (str, Path)):
        return _in_memory(source)
    path = Path(source)
    name = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if path.is_dir():
        inside = sorted(file.name for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES))
        listed = f"; give one of its files, such as {inside[0]}" if inside else "; give the path of a table"
        raise UserError(f"{path} is a folder{listed}")
    if suffix is None:
        raise UserError(f"{path} is of an unknown kind; give a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; give the path of a table")
    columnar = suffix in (".parquet", ".arrow")
    table = _read_arrow(path, suffix) if columnar else _read_text(path, suffix.removesuffix(".gz"))
    return _with_rows(table)


def _with_rows(table: Table) -> Table:
    if not table.num_rows:
        raise UserError(f"{table.path} holds no rows; give a table with at least two responses to one prompt")
    return table


def _in_memory(source: Any) -> Table:
    """Return a table that somebody else's library holds, told by what it can do: none of them is needed here."""
    path = Path("the table")
    if hasattr(source, "to_pydict"):  # Arrow
        _refuse_repeated(source.column_names, path)
        return _with_rows(Table(path, source.to_pydict()))
    if hasattr(source, "iloc"):  # pandas, whose missing values are NaN
        _refuse_repeated(map(str, source.columns), path)
        source = source.astype(object).where(source.notna(), None)
        columns = {str(name): source[name] for name in source.columns}
    elif isinstance(source, Mapping):
        if source and all(hasattr(value, "column_names") for value in source.values()):  # datasets.DatasetDict
            raise UserError(f"the data are {len(source)} tables, {', '.join(map(str, source))}; pass one of them")
        columns = {str(name): values for name, values in source.items()}
    elif isinstance(getattr(source, "column_names", None), Sequence):  # datasets.Dataset
        columns = {name: source[name] for name in source.column_names}
    elif isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        columns = dict(_of_records(source, path, "element"))
    else:
        raise UserError(
            f"the data are a {type(source).__name__}, expected a path, columns by name, rows as mappings, a Dataset, "
            "an Arrow table or a data frame"
        )
    listed = {name: _listed(values) for name, values in columns.items()}
    if len({len(values) for values in listed.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in listed.items())
        raise UserError(f"the table has columns of unequal lengths ({lengths}); give one value a row")
    return _with_rows(Table(path, listed))


def _listed(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise UserError(f"the table has a {type(values).__name__} for a column; give columns by name, each a list")
    return [_python_value(value) for value in values]


def _python_value(value: Any) -> Any:
    """Return a cell without NumPy: arrays and tuples as lists, at any depth, and scalars as numbers."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_python_value(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _python_value(inner) for key, inner in value.items()}
    return value


def _refuse_repeated(names: Iterable[str], path: Path) -> None:
    """Check that no column has the name of another, which would pair values with the wrong ones.

    Raises:
        UserError: One has.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"{path} has the column {repeated[0]!r} more than once; rename or remove all but one")


def _read_arrow(path: Path, suffix: str) -> Table:
    """Return a Parquet file's columns, or those of an Arrow file or stream (`datasets` saves streams)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = "Parquet" if suffix == ".parquet" else "Arrow"
    try:
        if kind == "Parquet":
            columns = pq.ParquetFile(path).read()
        else:
            with path.open("rb") as file:
                opened = pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream
                file.seek(0)
                columns = opened(file).read_all()
        _refuse_repeated(columns.column_names, path)
        return Table(path, {name: columns[name].to_pylist() for name in columns.column_names})
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as {kind} ({reason}); write the file again") from None


def read_text(path: Path) -> str:
    """Return a text file's content, unpacked where it is gzipped, its line breaks as they are.

    UTF-8 with or without a byte order mark, and UTF-16 with one.

    Raises:
        UserError: It cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz") or content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); write the file again") from None
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8, if it is Latin-1 with "
            f"'iconv -f latin1 -t utf-8'"
        ) from None


def _read_text(path: Path, suffix: str) -> Table:
    text = read_text(path)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, text, "\t" if suffix == ".tsv" else None)
    if suffix == ".json":
        return _read_json(path, text)
    return _read_json_lines(path, text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        KeyError: It has a key twice, with that key.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise KeyError(next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))
    return found


def _read_json(path: Path, text: str) -> Table:
    """Return the rows of a JSON array; or of an object that holds one, or columns; or of JSON Lines by another name."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except KeyError as error:
        raise UserError(f"{path} has an object with the key {error.args[0]!r} twice; keep one") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be a table; write the file again") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _read_json_lines(path, text)
        raise UserError(
            f"{path} line {error.lineno} is not JSON ({error.msg} at column {error.colno}); give an array of objects"
        ) from None
    if isinstance(value, list):
        return _of_records(value, path, "element")
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}; give an array of objects, one for each row")
    arrays = [name for name, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
    rest = [rows for name, rows in value.items() if name not in arrays]
    if arrays and not any(isinstance(rows, list) for rows in rest) and not {"chosen", "messages"} & set(value):
        if len(arrays) > 1:
            raise UserError(f"{path} holds several tables, {', '.join(arrays)}; write one of them to a file of its own")
        table = _of_records(value[arrays[0]], path, "element")
        return Table(path, table, (f"the rows are those under {arrays[0]!r}",))
    for kind, columns in (
        (dict, {name: list(rows.values()) for name, rows in value.items() if isinstance(rows, dict)}),
        (list, {name: rows for name, rows in value.items() if isinstance(rows, list)}),
    ):
        equal = len({len(rows) for rows in columns.values()}) == 1
        keys = {tuple(rows) for rows in value.values()} if kind is dict and len(columns) == len(value) else {()}
        if len(columns) == len(value) and equal and len(keys) == 1:
            return Table(path, columns, ("the object's keys are columns, their values rows",))
    return _of_records([value], path, "element")


def _of_records(records: Sequence[Any], path: Path, what: str) -> Table:
    names: dict[str, None] = {}
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise UserError(f"{path} {what} {number} is a {type(record).__name__}; give one object for each row")
        names.update(dict.fromkeys(record))
    return Table(path, {str(name): [record.get(name) for record in records] for name in names})


def _read_json_lines(path: Path, text: str) -> Table:
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_unique)
        except KeyError as error:
            raise UserError(f"{path} line {number} has the key {error.args[0]!r} twice; keep one") from None
        except RecursionError:
            raise UserError(f"{path} line {number} is nested too deeply to be a row; leave it out") from None
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path} line {number} is not JSON ({error.msg} at column {error.colno}); "
                "give one JSON object on each line, or an array in a .json file"
            ) from None
        if not isinstance(record, dict):
            raise UserError(
                f"{path} line {number} is a JSON {type(record).__name__}; give one JSON object on each line, or an "
                "array in a .json file"
            )
        records.append(record)
    return _of_records(records, path, "line")


def _read_csv(path: Path, text: str, delimiter: str | None) -> Table:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    notes: list[str] = []
    if delimiter is None:
        header = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
        # A spreadsheet writes what its country uses; a header with commas is taken at its word.
        delimiter = next((mark for mark in ";\t" if mark in header and "," not in header), ",")
        if delimiter != ",":
            notes.append(f"cells are separated by {delimiter!r}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        names = [name.strip() for name in next((cells for cells in reader if cells), [])]
        _refuse_repeated(names, path)
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
    return Table(path, columns, notes)
