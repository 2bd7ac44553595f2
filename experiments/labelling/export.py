"""What people said on a desk, as tables that `labels:` and other tools read."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from duelenv.experiments.results.labels import UNWRITABLE, write_table
from duelenv.ground.errors import UserError
from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.figures import Asked, Said, asked, said


def export(desk: Desk, path: Path, *, each: bool = False) -> int:
    """Write the answers of a desk to a file, by its ending .jsonl, .parquet or .csv.

    Args:
        desk: The desk.
        path: The file; replaced, whole or not at all.
        each: A row for each answer, in place of one for each pair.

    Returns:
        Rows written.

    Raises:
        UserError: There is no answer, or the file cannot be written.
    """
    table = answers_table(desk) if each else pairs_table(desk)
    if not len(table):
        raise UserError(f"the desk {str(desk.store.path)!r} holds no answer yet, so that there is nothing to write")
    write_table(table, path)
    return len(table)


def pairs_table(desk: Desk) -> Any:
    """Return the pairs that somebody answered, one row each, a `pyarrow.Table`.

    Columns: prompt, first, second; label, 1 where the first was preferred, a tie half a win, the mean where several
    people answered; win and tie, the shares of these; answers, how many there are; id. Pairs that everybody declined
    are left out.
    """
    import pyarrow as pa

    by_question: dict[int, list[Said]] = defaultdict(list)
    for one in said(desk):
        if one.win is not None:
            by_question[one.question].append(one)
    rows = []
    for question in asked(desk):
        answers = by_question.get(question.number)
        if answers:
            win = sum(one.win or 0.0 for one in answers) / len(answers)
            tie = sum(one.tie for one in answers) / len(answers)
            own = {"label": win + tie / 2.0, "win": win, "tie": tie, "answers": len(answers), "id": question.id}
            rows.append({**_texts(question), **own})
    numbers = [(name, pa.float64()) for name in ("label", "win", "tie")]
    schema = pa.schema([*_strings(), *numbers, ("answers", pa.int64()), ("id", pa.string())])
    return pa.Table.from_pylist(rows, schema=schema)


def answers_table(desk: Desk) -> Any:
    """Return every answer that was not taken back, one row each, a `pyarrow.Table`.

    Columns: prompt, first, second; label, win and tie as in `pairs_table`, null where somebody declined; annotator;
    verdict, of the page as they saw it; left, the response ("first" or "second") that stood on the left; seconds; at,
    in UTC; id.
    """
    import pyarrow as pa

    questions = {question.number: question for question in asked(desk)}
    rows = []
    for one in said(desk):
        question = questions[one.question]
        rows.append(
            {
                **_texts(question),
                "label": one.value,
                "win": one.win,
                "tie": None if one.win is None else one.tie,
                "annotator": one.annotator,
                "verdict": str(one.verdict),
                "left": "second" if one.swapped else "first",
                "seconds": one.seconds,
                "at": _time(one.at),
                "id": question.id,
            }
        )
    kinds = {"label": pa.float64(), "win": pa.float64(), "tie": pa.float64(), "seconds": pa.float64()}
    names = ("label", "win", "tie", "annotator", "verdict", "left", "seconds", "at", "id")
    schema = pa.schema([*_strings(), *((name, kinds.get(name, pa.string())) for name in names)])
    return pa.Table.from_pylist(rows, schema=schema)


_TEXTS = ("prompt", "first", "second")


def _texts(question: Asked) -> dict[str, str]:
    return {name: re.sub("[\ud800-\udfff]", UNWRITABLE, getattr(question, name)) for name in _TEXTS}


def _strings() -> list[Any]:
    import pyarrow as pa

    return [(name, pa.string()) for name in _TEXTS]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
