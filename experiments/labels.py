"""The labels of a run, out of the ledgers of its cells and back into them: tables, counts, and files of others."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from duelenv.experiments import files
from duelenv.experiments.cell import Cell
from duelenv.experiments.folder import RunFolder
from duelenv.labels.ledger import Counts, counts, text_of
from duelenv.labels.ledger_file import read

__all__ = ["assemble", "counts_by_cell", "labels_table", "spent_by_cell"]


def counts_by_cell(folder: RunFolder) -> dict[str, Counts]:
    """Return what the ledger of each cell holds, by the cell's name; cells without one are left out."""
    found = {}
    for path in sorted(folder.cells.glob("*")):
        connection = read(path)
        if connection is not None:
            with closing(connection):
                found[path.name] = counts(connection.execute)
    return found


def spent_by_cell(folder: RunFolder) -> dict[str, int]:
    """Return how many answers each cell may have paid for, by its name."""
    return {name: found.spent for name, found in counts_by_cell(folder).items()}


def labels_table(path: Path, agent: str, seeds: Sequence[int]) -> Any:
    """Return the duels of a cell, one row each.

    Args:
        path: The cell's folder.
        agent: Label of the agent.
        seeds: One seed per replicate; the rows of a round are shared out among them in order.

    Returns:
        A `pyarrow.Table` with agent, seed, step, row, first_arm, second_arm, prompt, first, second, label, source,
        told_step, win, tie and id; None where no duels are kept. Texts are null in worlds without texts. `label` is
        what the agent was told in round `told_step`, counted from 1, null where it was told nothing. `source` is
        "oracle" or, where nobody was asked or answered, "none". `win` and `tie` are what the source said, `id` names
        the question; null where the world knows the truth itself.
    """
    import pyarrow as pa

    connection = read(path)
    if connection is None:
        return None
    with closing(connection):
        texts = {number: text_of(text) for number, text in connection.execute("SELECT number, text FROM texts")}
        duels = connection.execute(
            "SELECT round, row, first_arm, second_arm, prompt, first, second, asked, label, told FROM duels "
            "ORDER BY round, row"
        ).fetchall()
        said = _said(connection)
    if not duels:
        return None
    numbers = {number: place for place, number in enumerate(texts)}
    dictionary = pa.array([_valid(text) for text in texts.values()], pa.string())
    batch = (max(row[1] for row in duels) + 1) // len(seeds)

    def words(column: int) -> Any:
        places = [None if row[column] is None else numbers[row[column]] for row in duels]
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), dictionary)

    answers = [said.get((row[0], row[1]), (None, None, None)) for row in duels]
    return pa.table(
        {
            "agent": pa.array([agent] * len(duels), pa.string()),
            "seed": pa.array([seeds[row[1] // batch] for row in duels], pa.int64()),
            "step": pa.array([row[0] + 1 for row in duels], pa.int64()),
            "row": pa.array([row[1] for row in duels], pa.int64()),
            "first_arm": pa.array([row[2] for row in duels], pa.int32()),
            "second_arm": pa.array([row[3] for row in duels], pa.int32()),
            "prompt": words(4),
            "first": words(5),
            "second": words(6),
            "label": pa.array([row[8] for row in duels], pa.float64()),
            "source": pa.array(["none" if row[8] is None else "oracle" for row in duels], pa.string()),
            "told_step": pa.array([None if row[9] is None else row[9] + 1 for row in duels], pa.int64()),
            "win": pa.array([answer[1] for answer in answers], pa.float64()),
            "tie": pa.array([answer[2] for answer in answers], pa.float64()),
            "id": pa.array([answer[0] for answer in answers], pa.string()),
        }
    )


def assemble(folder: RunFolder, done: Sequence[Cell]) -> None:
    """Put `labels.parquet` together from finished cells; removed where none of them keeps duels."""
    import pyarrow.parquet as pq

    writer = None
    try:
        with files.atomic(folder.labels) as stream:
            for cell in done:  # one at a time: a ledger may be large
                table = labels_table(folder.cell(cell.name).path, cell.label, cell.seeds)
                if table is not None:
                    writer = writer or pq.ParquetWriter(stream, table.schema)
                    writer.write_table(table)
            if writer is None:
                raise _NoLabels
            writer.close()
    except _NoLabels:
        folder.labels.unlink(missing_ok=True)


class _NoLabels(Exception):
    """No cell keeps duels."""


def _said(connection: sqlite3.Connection) -> Mapping[tuple[int, int], tuple[str, float | None, float]]:
    """What was answered to each duel, by round and row: id, win and tie."""
    return {
        (number, row): (key, win, tie)
        for key, number, row, win, tie in connection.execute(
            "SELECT requests.id, requests.round, requests.row, win, tie FROM requests JOIN answers USING (id) "
            "WHERE purpose = 'duel' AND superseded = 0"
        )
    }


def _valid(text: str | None) -> str | None:
    """A text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")
