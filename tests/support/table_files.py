"""Tables of responses, written to files; and how the sentence for one that does not fit looks."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [
    {"prompt": "p", "response": "a", "score": 1.0, "model": "x"},
    {"prompt": "q", "response": "c", "score": 3.0, "model": "x"},
    {"prompt": "p", "response": "b", "score": 2.0, "model": "y"},
    {"prompt": "q", "response": 'd, \n"e"', "score": 4.0, "model": "y"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as Parquet or (gzipped) JSON Lines, as the name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def is_one_sentence(message: str) -> bool:
    """Whether an error message is one line without a full stop; it may end in the dots of "prompt=..."."""
    return "\n" not in message and not re.search(r"(?<!\.)\.$", message)


REAL = Path(__file__).parents[2] / ".." / "shared" / "data"
"""Where the development data are, on machines that have them."""
