"""Recorded comparisons out of files: tables of preferences, exports of labels, and the ledgers of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from duelenv.data import Table, load_pairs, read_table
from duelenv.data.columns import is_blank
from duelenv.ground.checks import refuse_unknown
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import text_of
from duelenv.labels.ledger_file import COPY, DATABASE, read
from duelenv.oracles.base import ROUNDING
from duelenv.oracles.recorded import Compared, PairRecord

#: Columns of a run's exported duels.
_EXPORTED: Final = ("prompt", "first", "second", "label", "win", "tie")
_COLUMNS: Final = frozenset(load_pairs.__kwdefaults__ or ())


def read_record(path: str | Path, **columns: Any) -> PairRecord:
    """Read what was recorded of pairs.

    Args:
        path: A table that `duelenv.data.load_pairs` reads; the duels that `duelenv labels RUN --export` wrote; or a
            folder, of which every ledger counts that lies in it. Of a question that had an answer, the probabilities
            count that were answered, else the label. The same question with the same answer, as where a run was
            extended, counts once.
        columns: Settings of `load_pairs`, for tables.

    Raises:
        UserError: As `load_pairs`; a folder without ledgers, duels without texts, or nothing with an answer.
    """
    refuse_unknown("columns", columns, sorted(_COLUMNS))
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted({file.parent for name in (DATABASE, COPY) for file in place.rglob(name)})
        if not found or columns:
            raise UserError(
                f"{str(place)!r} is a folder {'of a run, which has no columns' if found else 'without ledgers'}, "
                "expected a run's folder or a table of pairs; give the path of one of them"
            )
        compared = {row: None for folder in found for row in _of_ledger(folder)}  # in order, each once
    else:
        table = read_table(place)
        if columns or not set(_EXPORTED) <= set(table):
            return PairRecord(_of_table(table, columns))
        compared = dict.fromkeys(_of_export(table))
    if not compared:
        raise UserError(
            f"{str(place)!r} holds no duel of texts with an answer, expected at least one; give the record of a world "
            "of texts"
        )
    return PairRecord(one for _, one in compared)


def _of_table(table: Table, columns: Mapping[str, Any]) -> Iterator[Compared]:
    pairs = load_pairs(table, **columns)
    labels = [1.0] * len(pairs) if pairs.labels is None else pairs.labels.tolist()
    for prompt, chosen, rejected, label in zip(pairs.prompts, pairs.chosen, pairs.rejected, labels, strict=True):
        yield _labelled(prompt, chosen, rejected, label)


def _labelled(prompt: str, first: str, second: str, label: float) -> Compared:
    """Make a comparison of its label, of which exactly 1/2 is a declared tie."""
    return Compared(prompt, first, second, 0.0, 1.0) if label == 0.5 else Compared(prompt, first, second, label)


def _of_export(table: Table) -> Iterator[tuple[Any, Compared]]:
    ids = table.get("id", [None] * table.num_rows)
    steps, rows = (table.get(name, [None] * table.num_rows) for name in ("step", "row"))
    for row, (key, step, at) in enumerate(zip(ids, steps, rows, strict=True)):
        prompt, first, second = (table[name][row] for name in _EXPORTED[:3])
        win, tie, label = (_share(table, name, row) for name in ("win", "tie", "label"))
        if None in (prompt, first, second) or (win is None and label is None):
            continue
        if win is None or tie is None:
            assert label is not None
            yield ((row,) if is_blank(step) else (step, at)), _labelled(prompt, first, second, label)
            continue
        if win + tie > 1.0 + ROUNDING:
            raise UserError(f"{table.place(row)} has win {win:g} and tie {tie:g}, expected at most 1; correct them")
        yield key or (row,), Compared(prompt, first, second, win, tie)


def _share(table: Table, name: str, row: int) -> float | None:
    value = table[name][row]
    if is_blank(value):
        return None
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UserError(f"{table.place(row)} has the {name} {value!r}, expected a number from 0 to 1; correct it")
    return share


def _of_ledger(folder: Path) -> Iterator[tuple[Any, Compared]]:
    connection = read(folder)
    if connection is None:
        return
    with closing(connection):
        texts = {number: text_of(text) for number, text in connection.execute("SELECT number, text FROM texts")}
        answered = connection.execute(
            "SELECT id, win, tie, prompt, first, second FROM requests JOIN answers USING (id) "
            "WHERE purpose = 'duel' AND superseded = 0"
        ).fetchall()
        # Of worlds that know the truth themselves, nobody was asked.
        told = connection.execute(
            "SELECT duels.round, duels.row, duels.label, duels.prompt, duels.first, duels.second FROM duels "
            "LEFT JOIN requests ON requests.round = duels.round AND requests.row = duels.row AND purpose = 'duel' "
            "WHERE requests.id IS NULL AND duels.label IS NOT NULL AND duels.prompt IS NOT NULL "
            "ORDER BY duels.round, duels.row"
        ).fetchall()
    for key, win, tie, prompt, first, second in answered:
        if win is not None:  # a source that declined
            yield key, Compared(texts[prompt], texts[first], texts[second], win, tie)
    for number, row, label, prompt, first, second in told:
        yield (number, row), _labelled(texts[prompt], texts[first], texts[second], label)
