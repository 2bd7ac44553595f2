"""The page of the run folder: every file, and what is in it."""

from __future__ import annotations

from duelenv.experiments.folder.schema import FILES
from duelenv.experiments.reference.markdown import cell, code, table
from duelenv.experiments.results.metrics import described

__all__ = ["folder_page"]

_INTRODUCTION = """# Run folder

Every file that `duelenv run` leaves, with its columns or keys. What protects them, and what happens when one is
damaged, is in [Runs](../runs.md#the-folder). `CELL` is the name of a cell: an agent with a seed, or, where no policy is
trained, with all seeds; `METRIC` is the metric by which the run compares agents. Read `results.parquet` and
`labels.parquet` with anything that reads Parquet, or
[from Python](../python.md):

```python
import pyarrow.parquet as pq


def last_rows(path):
    rows = pq.read_table(path).to_pylist()
    return {(row["agent"], row["seed"]): row for row in rows}  # rows are in the order of steps
```
"""


def folder_page() -> str:
    """Write files first, then one section for each that has columns, then the metrics."""
    files = [[_link(one.path, bool(one.columns)), one.form, one.about] for one in FILES]
    parts = [_INTRODUCTION, table(["file", "form", "what it is"], files)]
    for one in FILES:
        if not one.columns:
            continue
        parts.append(f"## {one.path}\n\n{one.about}\n")
        rows = [
            [code(name), code(column.kind) if column.kind else "", cell(column.meaning)]
            for name, column in one.columns.items()
        ]
        if one.sealed:
            rows.append([code("seal"), code("text"), "SHA-256 of the rest, by which damage is noticed."])
        parts.append(table(["column" if one.form in ("Parquet", "CSV", "SQLite") else "key", "type", "meaning"], rows))
        if one.others:
            parts.append(f"{one.others}\n")
    parts.append("## Metrics\n")
    parts.append(
        "Columns of `results.parquet` that worlds and the runner measure. `regret_NOTION` is cumulative regret under "
        "each notion that the world knows ([the problem](../problem.md#regret)).\n"
    )
    parts.append(table(["column", "what it is", "better"], [[code(n), cell(t), b or ""] for n, t, b in described()]))
    return "\n".join(parts)


def _link(path: str, has_section: bool) -> str:
    if not has_section:
        return code(path)
    anchor = "".join(letter for letter in path.lower() if letter.isalnum() or letter in "_-")
    return f"[{code(path)}](#{anchor})"
