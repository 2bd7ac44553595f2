"""Answers from elsewhere, taken into the ledgers of a run: its own exports, other runs, and files of labels.

What is taken in is written down as answered and never as spent. It is told when its question is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from duelenv.data.tables import Table, read_table
from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.identity import settings_of
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import hold_cell, hold_run
from duelenv.experiments.results.labels import UNWRITABLE
from duelenv.experiments.running.given_labels import GivenLabels, read_labels
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import PURPOSES, Ledger, Purpose, text_of
from duelenv.labels.ledger_file import COPY, DATABASE, read
from duelenv.labels.questions import request_id
from duelenv.oracles.base import ROUNDING
from duelenv.oracles.sources import Answer, Request

__all__ = ["Answers", "TakenIn", "begin_with", "read_answers", "take_in"]

#: By which a row names its question.
_NAMED: Final = ("id", "agent", "seed", "step", "row", "win", "tie")

Value = TypeVar("Value")


class TakenIn(NamedTuple):
    """What came of answers from elsewhere.

    Attributes:
        new: Answers that were written down.
        known: Those whose question had an answer already.
        strange: Those to no question of this run.
        waiting: The new ones whose question nobody has asked yet.
        too_late: How many cells with new answers are finished, so that their agents are not told of them.
    """

    new: int = 0
    known: int = 0
    strange: int = 0
    waiting: int = 0
    too_late: int = 0


class _Given(NamedTuple):
    """An answer with its question.

    Attributes:
        request: The question.
        answer: What was said.
        fits: Whether the texts are those that the question's id is made of; a table may not hold them.
        purpose: What it was asked for.
    """

    request: Request
    answer: Answer
    fits: bool = True
    purpose: Purpose = "duel"


class Answers(NamedTuple):
    """Answers by the name of their cell, and how many belong to none."""

    given: dict[str, list[_Given]]
    strange: int


def take_in(folder: RunFolder, config: RunConfig, path: Path) -> TakenIn:
    """Write answers from a file into the ledgers of a run that is not running.

    A file with an `id` a row, as exported from such a run, gives back what was asked and answered there. Any other file
    of labels answers the open questions with the same texts, in whichever order its responses stand.

    Raises:
        UserError: The file or a row of it is not as expected, or the run goes on.
    """
    table = read_table(path)
    with hold_run(folder.lock):
        if set(_NAMED) <= set(table):
            return _give(folder, _by_cell(table, cells(config)))
        return _answer_open(folder, config, read_labels(path))


def read_answers(wanted: Sequence[Cell], source: Path) -> Answers:
    """Read the answers that cells may begin with. Writes nothing.

    Args:
        wanted: Cells that may take answers.
        source: A run folder, or a file that was exported from one.

    Raises:
        UserError: It is neither, or a row of it is not as expected.
    """
    if not source.is_dir():
        table = read_table(source)
        lacking = [name for name in _NAMED if name not in table]
        if lacking:
            raise UserError(
                f"{str(source)!r} has no column {lacking[0]!r}, expected a run folder or an export of one: "
                "'duelenv labels RUN_DIR --export FILE' writes it, and 'labels: FILE' takes any other labels"
            )
        return _by_cell(table, wanted)
    other = RunFolder(source)
    roots = {(cell.label, cell.seeds[0]): cell.name for cell in wanted}  # by which questions are named
    given: dict[str, list[_Given]] = {}
    strange = 0
    for cell in cells(settings_of(other)):
        held = _held(other.cell(cell.name).path)
        name = roots.get((cell.label, cell.seeds[0]))
        if name is None:
            strange += len(held)
        else:
            given[name] = held
    return Answers(given, strange)


def begin_with(folder: RunFolder, wanted: Sequence[Cell], answers: Answers) -> TakenIn:
    """Write answers into the ledgers of cells that have none yet; whoever calls holds the run.

    Args:
        folder: The run's.
        wanted: Cells that may take answers; those with a ledger are left alone.
        answers: As `read_answers` returns them.
    """
    bare = {
        cell.name
        for cell in wanted
        if not any((folder.cell(cell.name).path / name).exists() for name in (DATABASE, COPY))
    }
    if not bare:
        return TakenIn()
    others = sum(len(given) for name, given in answers.given.items() if name not in bare)
    given = {name: given for name, given in answers.given.items() if name in bare}
    return _give(folder, Answers(given, answers.strange + others))


def _held(path: Path) -> list[_Given]:
    """Read all answers in a cell's folder, those to `evaluate` among them."""
    connection = read(path)
    if connection is None:
        return []
    with closing(connection):
        found = connection.execute(
            "SELECT id, purpose, requests.round, row, p.text, a.text, b.text, win, tie "
            "FROM requests JOIN answers USING (id) JOIN texts p ON p.number = prompt "
            "JOIN texts a ON a.number = first JOIN texts b ON b.number = second WHERE superseded = 0"
        ).fetchall()
    return [
        _Given(
            Request(key, number, row, *map(text_of, words)),
            Answer(key, math.nan if win is None else win, tie),
            purpose=purpose,
        )
        for key, purpose, number, row, *words, win, tie in found
    ]


# Rows of exports -----------------------------------------------------------------------------------------------------


def _by_cell(table: Table, wanted: Sequence[Cell]) -> Answers:
    """Read the rows of an export.

    Raises:
        UserError: A value that no export holds, an id that does not fit, or two answers to one question.
    """
    by_cell: dict[str, list[_Given]] = {}
    names = {(cell.label, seed): cell.name for cell in wanted for seed in cell.seeds}
    seen: dict[tuple[str, str], tuple[int, Answer]] = {}
    strange = 0
    for index in range(table.num_rows):
        # In CSV, what is null is empty.
        row: dict[str, Any] = {name: None if column[index] == "" else column[index] for name, column in table.items()}
        if row["id"] is None:  # nobody answered
            continue
        read = _Reader(table, index, row)
        given = read.answered()
        name = names.get((read.text("agent"), read.whole("seed")))
        if name is None:
            strange += 1
            continue
        first, before = seen.setdefault((name, given.answer.id), (index, given.answer))
        if not _equal(before, given.answer):
            raise UserError(
                f"{table.place(index)} answers the question of row {first} otherwise (win {given.answer.win:g} and "
                f"{before.win:g}): leave one of the two rows out"
            )
        if first == index:
            by_cell.setdefault(name, []).append(given)
    return Answers(by_cell, strange)


def _equal(one: Answer, other: Answer) -> bool:
    same = one.win == other.win or (math.isnan(one.win) and math.isnan(other.win))
    return same and one.tie == other.tie


class _Reader(NamedTuple):
    """One row of an export, whose values are read as what they stand for."""

    table: Table
    place: int
    row: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self.row.get(name)
        return value if isinstance(value, str) else self._refused(name, "a text")

    def whole(self, name: str) -> int:
        return self._number(name, int, "a whole number")

    def share(self, name: str) -> float:
        """Read a probability; NaN where there is none."""
        if self.row[name] is None:
            return math.nan
        value = self._number(name, float, "a number from 0 to 1, or nothing")
        return value if 0.0 <= value <= 1.0 else self._refused(name, "a number from 0 to 1, or nothing")

    def _number(self, name: str, kind: Callable[[Any], Value], expected: str) -> Value:
        value = self.row[name]
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return self._refused(name, expected)
        try:
            return kind(value)
        except (ValueError, OverflowError):
            return self._refused(name, expected)

    def _refused(self, name: str, expected: str) -> Any:
        raise UserError(
            f"{self.table.place(self.place)} has the {name} {self.row.get(name)!r}, expected {expected}: export the "
            "labels again"
        )

    def answered(self) -> _Given:
        """Read the question and its answer."""
        words = [self.row.get(name) or "" for name in ("prompt", "first", "second")]
        key, number, row = self.text("id"), self.whole("step") - 1, self.whole("row")
        fits = key.endswith(request_id(0, number, row, *words).partition("-")[2])
        if not fits and not any(UNWRITABLE in text for text in words):
            raise UserError(
                f"{self.table.place(self.place)} has an id that does not fit its step, row and texts: export the "
                "labels again"
            )
        win, tie = self.share("win"), self.share("tie")
        tie = 0.0 if math.isnan(tie) else tie
        if win + tie > 1.0 + ROUNDING:
            raise UserError(
                f"{self.table.place(self.place)} has win {win:g} and tie {tie:g}, expected no more than 1 together: "
                "export the labels again"
            )
        return _Given(Request(key, number, row, *words), Answer(key, win, tie), fits)


# Into the ledgers ----------------------------------------------------------------------------------------------------


def _give(folder: RunFolder, found: Answers) -> TakenIn:
    new = known = waiting = 0
    strange = found.strange
    told: list[str] = []
    for name, given in found.given.items():
        with _open_ledger(folder, name) as ledger:
            requests = [one.request for one in given]
            answered, asked = len(ledger.answers_to(requests)), ledger.among(requests)
            # A question whose texts a table could not hold is known by its id alone.
            usable = [one for one in given if one.fits or one.request.id in asked]
            taken = sum(
                ledger.take_in(((one.request, one.answer) for one in usable if one.purpose == purpose), purpose)
                for purpose in PURPOSES
            )
            waiting += len(ledger.among(requests)) - len(asked)
        new, known, strange = new + taken, known + answered, strange + len(given) - answered - taken
        told += [name] if taken else []
    return TakenIn(new, known, strange, waiting, _over(folder, told))


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
    return TakenIn(new, 0, len(labels) - len(used), 0, _over(folder, told))


def _over(folder: RunFolder, names: Iterable[str]) -> int:
    """Count the cells that are finished, so that their agents hear nothing more."""
    return sum(folder.cell(name).finished for name in names)


@contextmanager
def _open_ledger(folder: RunFolder, name: str) -> Iterator[Ledger]:
    with hold_cell(folder.cell(name).lock, lambda: False), closing(Ledger(folder.cell(name).path)) as ledger:
        yield ledger
