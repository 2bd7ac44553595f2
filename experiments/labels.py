"""The labels of a run, out of the ledgers of its cells and back into them: tables, counts, and files of others."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from duelenv.data.tables import Table, read_table
from duelenv.experiments import files
from duelenv.experiments.cell import Cell, cells
from duelenv.experiments.config import RunConfig
from duelenv.experiments.folder import RunFolder
from duelenv.experiments.locks import hold_cell, hold_run
from duelenv.experiments.warm import GivenLabels, read_labels
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import Counts, Ledger, counts, text_of
from duelenv.labels.ledger_file import DATABASE, read
from duelenv.labels.questions import request_id
from duelenv.oracles.sources import Answer, Request, checked

__all__ = [
    "TakenIn",
    "assemble",
    "counts_by_cell",
    "labels_table",
    "preferences_of",
    "table_of",
    "take_in",
    "write_table",
]


#: Stands in tables for half a surrogate pair, which UTF-8 cannot hold.
_UNWRITABLE: Final = "\ufffd"


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


def write_table(table: Any, path: Path) -> None:
    """Write a table as Parquet, JSON Lines or CSV, by the ending of the file's name.

    Raises:
        UserError: Another ending, or the disk refuses.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    kinds = (".parquet", ".jsonl", ".csv")
    if path.suffix not in kinds:
        raise UserError(f"{str(path)!r} ends in {path.suffix!r}, expected one of {', '.join(kinds)}")
    with files.atomic(path) as stream:
        if path.suffix == ".parquet":
            pq.write_table(table, stream)
        elif path.suffix == ".csv":
            plain = [column.combine_chunks().dictionary_decode() if _is_coded(column) else column for column in table]
            pyarrow.csv.write_csv(table.from_arrays(plain, names=table.column_names), stream)
        else:
            stream.writelines(_json_line(row) for row in table.to_pylist())


def _json_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line, with what some readers take for the end of one written as an escape."""
    text = json.dumps(row, ensure_ascii=False)
    for end in "\x85\u2028\u2029":
        text = text.replace(end, f"\\u{ord(end):04x}")
    return text.encode() + b"\n"


def _is_coded(column: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_dictionary(column.type))


# From elsewhere ------------------------------------------------------------------------------------------------------


class TakenIn(NamedTuple):
    """What came of labels from elsewhere.

    Attributes:
        new: Answers that were written down.
        known: Those whose question had an answer already.
        strange: Those to no question of this run.
        too_late: How many cells with new answers are finished, so that their agents are not told of them.
    """

    new: int
    known: int
    strange: int
    too_late: int = 0


def take_in(folder: RunFolder, config: RunConfig, path: Path) -> TakenIn:
    """Write answers from a file into the ledgers of a run that is not running.

    A file with an `id` a row, as exported from such a run, gives back what was asked and answered there. Any other file
    of labels answers the open questions with the same texts, in whichever order its responses stand.

    Raises:
        UserError: The file or a row of it is not as expected, or the run goes on.
    """
    table = read_table(path)
    with hold_run(folder.lock):
        if {"id", "agent", "seed", "step", "row", "win", "tie"} <= set(table):
            return _give_back(folder, config, table)
        return _answer_open(folder, config, read_labels(path))


def _give_back(folder: RunFolder, config: RunConfig, table: Table) -> TakenIn:
    by_cell: dict[str, list[tuple[Request, Answer]]] = {}
    unfit: set[str] = set()  # ids of texts that stand otherwise in the table than they were asked
    names = {(cell.label, seed): cell.name for cell in cells(config) for seed in cell.seeds}
    strange = 0
    for index in range(table.num_rows):
        # In CSV, what is null is empty.
        row: dict[str, Any] = {name: None if column[index] == "" else column[index] for name, column in table.items()}
        if row["id"] is None:
            continue
        name = names.get((row["agent"], int(row["seed"])))
        if name is None:
            strange += 1
            continue
        words = [row[column] or "" for column in ("prompt", "first", "second")]
        key, number, place = str(row["id"]), int(row["step"]) - 1, int(row["row"])
        if not key.endswith(request_id(0, number, place, *words).partition("-")[2]):
            if not any(_UNWRITABLE in text for text in words):
                raise UserError(
                    f"{table.place(index)} has an id that does not fit its step, row and texts: export the labels again"
                )
            unfit.add(key)
        win = float("nan") if row["win"] is None else float(row["win"])
        answer = checked(Answer(key, win, float(row["tie"] or 0.0)))
        by_cell.setdefault(name, []).append((Request(key, number, place, *words), answer))
    new = known = 0
    for name, answered in by_cell.items():
        with _open_ledger(folder, name) as ledger:
            requests = [request for request, _ in answered]
            before, asked = len(ledger.answers_to(requests)), ledger.among(requests)
            taken = ledger.take_in(one for one in answered if one[0].id not in unfit or one[0].id in asked)
            new, known, strange = new + taken, known + before, strange + len(answered) - before - taken
    return TakenIn(new, known, strange, _over(folder, by_cell) if new else 0)


def _over(folder: RunFolder, names: Iterable[str]) -> int:
    """Count the cells that are finished, so that their agents hear nothing more."""
    return sum(folder.cell(name).finished for name in names)


def _answer_open(folder: RunFolder, config: RunConfig, given: GivenLabels) -> TakenIn:
    labels: dict[tuple[str, str, str], float] = {}
    for prompt, first, second, label in zip(given.prompts, given.first, given.second, given.labels, strict=True):
        labels.setdefault((prompt, first, second), float(label))
    used: set[tuple[str, str, str]] = set()
    told: list[str] = []
    new = 0
    for cell in cells(config):
        if not (folder.cell(cell.name).path / DATABASE).exists():
            continue
        with _open_ledger(folder, cell.name) as ledger:
            answered = []
            for request in ledger.open_questions():
                key = (request.prompt, request.first, request.second)
                turned = (request.prompt, request.second, request.first)
                if key in labels:
                    label = labels[key]
                elif turned in labels:
                    key, label = turned, 1.0 - labels[turned]
                else:
                    continue
                used.add(key)
                said = Answer(request.id, 0.0, tie=1.0) if label == 0.5 else Answer(request.id, label)
                answered.append((request, said))
            taken = ledger.take_in(answered)
            new += taken
            told += [cell.name] if taken else []
    return TakenIn(new, 0, len(labels) - len(used), _over(folder, told))


@contextmanager
def _open_ledger(folder: RunFolder, name: str) -> Iterator[Ledger]:
    with hold_cell(folder.cell(name).lock, lambda: False), closing(Ledger(folder.cell(name).path)) as ledger:
        yield ledger


def _said(connection: sqlite3.Connection) -> Mapping[tuple[int, ...], tuple[str, float | None, float]]:
    """What was answered to each duel, by round, row and the numbers of its texts: id, win and tie."""
    return {
        tuple(place): (key, win, tie)
        for key, win, tie, *place in connection.execute(
            "SELECT requests.id, win, tie, requests.round, row, prompt, first, second "
            "FROM requests JOIN answers USING (id) WHERE purpose = 'duel' AND superseded = 0"
        )
    }


def _valid(text: str) -> str:
    """A text as a table can hold it."""
    return re.sub("[\ud800-\udfff]", _UNWRITABLE, text)
