"""The labels of a run, out of the ledgers of its cells: tables, counts and exports.

Not for what comes from elsewhere: that is `duelenv.experiments.running.answers`.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import Counts, counts, text_of
from duelenv.labels.ledger_file import read

__all__ = [
    "UNWRITABLE",
    "assemble",
    "counts_by_cell",
    "labels_table",
    "preferences_of",
    "table_of",
    "trl_preferences_of",
    "write_table",
]


#: Stands in tables for half a surrogate pair, which UTF-8 cannot hold.
UNWRITABLE: Final = "\ufffd"


def counts_by_cell(folder: RunFolder, config: RunConfig) -> dict[str, Counts]:
    """Return what the ledger of each cell holds, by the cell's name; cells without one are left out.

    So are those of fewer seeds, which the run had before it was extended: their answers were taken over.
    """
    found = {}
    for cell in cells(config):
        connection = read(folder.cell(cell.name).path)
        if connection is not None:
            with closing(connection):
                found[cell.name] = counts(connection.execute)
    return found


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
    # In order of first use, so that runs of the same duels give the same table.
    shown = dict.fromkeys(number for row in duels for number in row[4:7] if number is not None)
    numbers = {number: place for place, number in enumerate(shown)}
    dictionary = pa.array([_valid(texts[number]) for number in shown], pa.string())
    batch = (max(row[1] for row in duels) + 1) // len(seeds)

    def words(column: int) -> Any:
        places = [None if row[column] is None else numbers[row[column]] for row in duels]
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), dictionary)

    answers = [said.get((row[0], row[1], *row[4:7]), (None, None, None)) for row in duels]
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
        # The writer is closed before the stream, whatever happens: it would write into the closed one when it dies.
        with files.atomic(folder.labels) as stream, ExitStack() as opened:
            for cell in done:  # one at a time: a ledger may be large
                table = labels_table(folder.cell(cell.name).path, cell.label, cell.seeds)
                if table is not None:
                    writer = writer or opened.enter_context(pq.ParquetWriter(stream, table.schema))
                    writer.write_table(table)
            if writer is None:
                raise _NoLabels
    except _NoLabels:
        folder.labels.unlink(missing_ok=True)


class _NoLabels(Exception):
    """No cell keeps duels."""


def table_of(folder: RunFolder, config: RunConfig, agent: str | None = None, seed: int | None = None) -> Any:
    """Return the duels of all cells, finished or not, as `labels_table` does; of one agent or seed where it is named.

    Raises:
        UserError: There are none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if agent is not None:
        checks.one_of("agent", agent, [known.label for known in config.agents])
    if seed is not None and seed not in config.seeds:
        raise UserError(f"seed is {seed}, expected one of {', '.join(map(str, config.seeds))}")
    tables = [
        labels_table(folder.cell(cell.name).path, cell.label, cell.seeds)
        for cell in cells(config)
        if agent in (None, cell.label) and (seed is None or seed in cell.seeds)
    ]
    found = pa.concat_tables([table for table in tables if table is not None]) if any(tables) else None
    if found is not None and seed is not None:
        found = found.filter(pc.equal(found["seed"], seed))
    if found is None or not len(found):
        raise UserError(
            f"{str(folder.root)!r} keeps no duels"
            + ("" if agent is None and seed is None else " of this agent and seed")
            + ": nothing was played yet, or 'label_log' is off"
        )
    return found


def preferences_of(table: Any) -> Any:
    """Return duels with a label as pairs of a chosen and a rejected response, a `pyarrow.Table`.

    Columns: prompt, chosen, rejected; margin, P(chosen preferred) - P(rejected preferred) as the source said, null
    where only the label is known; tie, true where the label is 0.5, and chosen is then the first; agent, seed, step.

    Raises:
        UserError: The duels have no texts.
    """
    import pyarrow as pa

    rows = [row for row in table.to_pylist() if row["label"] is not None]
    if not rows or rows[0]["prompt"] is None:
        raise UserError("These duels have no labels or no texts, so that there are no preferences to write")
    pairs = []
    for row in rows:
        names = ("first", "second") if row["label"] >= 0.5 else ("second", "first")
        margin = None if row["win"] is None else 2.0 * row["win"] + row["tie"] - 1.0
        pairs.append(
            {
                "prompt": row["prompt"],
                "chosen": row[names[0]],
                "rejected": row[names[1]],
                "margin": margin if margin is None or names[0] == "first" else -margin,
                "tie": row["label"] == 0.5,
                **{name: row[name] for name in ("agent", "seed", "step")},
            }
        )
    return pa.Table.from_pylist(pairs)


def trl_preferences_of(table: Any, *, chat: bool) -> Any:
    """Return duels with a label as TRL's trainers read them, a `pyarrow.Table` of prompt, chosen and rejected.

    Ties are left out, which these have no place for, and so is the margin: TRL's reward trainer would take a column of
    that name for one in nats.

    Args:
        table: Duels.
        chat: Whether they are messages, as a policy needs that is chatted with.

    Raises:
        UserError: The duels have no texts, or are ties, all of them.
    """
    import pyarrow as pa

    pairs = [pair for pair in preferences_of(table).to_pylist() if not pair["tie"]]
    if not pairs:
        raise UserError("These duels are ties, all of them, so that there are no preferences to write")
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return pa.Table.from_pylist(
        [
            {name: [{"role": role, "content": pair[name]}] if chat else pair[name] for name, role in roles.items()}
            for pair in pairs
        ]
    )


def write_table(table: Any, path: Path) -> None:
    """Write a table as Parquet, JSON Lines or CSV, by the ending of the file's name.

    Raises:
        UserError: Another ending, one that cannot hold the table, or the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    kinds = (".parquet", ".jsonl", ".csv")
    if path.suffix not in kinds:
        raise UserError(f"{str(path)!r} ends in {path.suffix!r}, expected one of {', '.join(kinds)}")
    if path.suffix == ".csv" and any(pa.types.is_nested(kind) for kind in table.schema.types):
        raise UserError(
            f"{str(path)!r} is to hold messages, which CSV cannot: give a name that ends in .jsonl or .parquet"
        )
    with files.atomic(path) as stream:
        if path.suffix == ".parquet":
            pq.write_table(table, stream)
        elif path.suffix == ".csv":
            plain = [column.combine_chunks().dictionary_decode() if _is_coded(column) else column for column in table]
            pyarrow.csv.write_csv(table.from_arrays(plain, names=table.column_names), stream)
        else:
            stream.writelines(_json_line(row) for row in table.to_pylist())


def _json_line(row: Mapping[str, Any]) -> bytes:
    """Write a row as a line, with what some readers take for the end of one written as an escape."""
    text = json.dumps(row, ensure_ascii=False)
    for end in "\x85\u2028\u2029":
        text = text.replace(end, f"\\u{ord(end):04x}")
    return text.encode() + b"\n"


def _is_coded(column: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_dictionary(column.type))


def _said(connection: sqlite3.Connection) -> Mapping[tuple[int, ...], tuple[str, float | None, float]]:
    """Read what was answered to each duel, by round, row and the numbers of its texts: id, win and tie."""
    return {
        tuple(place): (key, win, tie)
        for key, win, tie, *place in connection.execute(
            "SELECT requests.id, win, tie, requests.round, row, prompt, first, second "
            "FROM requests JOIN answers USING (id) WHERE purpose = 'duel' AND superseded = 0"
        )
    }


def _valid(text: str) -> str:
    """Write a text as a table can hold it."""
    return re.sub("[\ud800-\udfff]", UNWRITABLE, text)
