"""Tables with a chosen and a rejected response a row, as pairs; tables of single responses are read in `responses`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.data import columns
from duelenv.data.dialogues import split_dialogues, split_messages, text_of
from duelenv.data.faults import ON_FAULT, OnFault, announce, is_dropped, require_prompt
from duelenv.data.pool import Pairs
from duelenv.data.scores import numbers
from duelenv.data.tables import Place, Table, read_table
from duelenv.ground.checks import one_of
from duelenv.ground.errors import UserError


def load_pairs(
    path: str | Path | Table,
    *,
    prompt: str | None = None,
    chosen: str = "chosen",
    rejected: str = "rejected",
    chosen_score: str | None = None,
    rejected_score: str | None = None,
    empty: OnFault = "error",
) -> Pairs:
    r"""Read a table with one pair of a chosen and a rejected response a row.

    Three shapes are understood. With a prompt column, the two are responses (or whole conversations, where every one in
    the table begins with its prompt). Without one, they are dialogues in the style of HH-RLHF, "\n\nHuman: ...
    \n\nAssistant: ...": the prompt is what both share up to the last "Assistant:" turn in it, the responses are the
    rest. Or they are lists of messages {"role", "content"}: the prompt is the messages that both share, written as such
    a dialogue unless it is a single message, whose content is the prompt.

    Args:
        path: A .parquet, .jsonl, .jsonl.gz, .csv or .csv.gz file, or what `read_table` made of one.
        prompt: Column of prompts; None takes one with a usual name if there is one.
        chosen: Column of preferred responses.
        rejected: Column of the others.
        chosen_score: Column of the preferred responses' scores; None takes one with a usual name if
            there is one.
        rejected_score: Column of the others' scores.
        empty: What to do about a response without text: "error", "drop" the pair, or "keep" it.

    Raises:
        UserError: As `load_responses`; also a dialogue without a shared "Assistant:" turn. Two
            equal responses are no error: people are asked about equal texts, and answer.
    """
    one_of("empty", empty, ON_FAULT)
    table = read_table(path)
    columns.named_column(table, "chosen", chosen)
    columns.named_column(table, "rejected", rejected)
    prompt = columns.find_column(table, "prompt", prompt, columns.PROMPT_NAMES)
    better = columns.find_column(table, "chosen_score", chosen_score, columns.CHOSEN_SCORE_NAMES)
    worse = columns.find_column(table, "rejected_score", rejected_score, columns.REJECTED_SCORE_NAMES)
    if (better is None) != (worse is None):
        raise UserError(
            f"{table.path} has scores only in column {better or worse!r}; give both chosen_score and rejected_score"
        )
    starts: Sequence[Any] = table[prompt] if prompt else [None] * table.num_rows
    # Of the whole table, because a single answer may well begin with the words of a short prompt.
    repeated = all(
        isinstance(text, str) and isinstance(start, str) and text.startswith(start)
        for column in (table[chosen], table[rejected])
        for start, text in zip(starts, column, strict=True)
    )
    kept: list[tuple[str, str, str]] = []
    rows: list[int] = []
    for row, (start, first, second) in enumerate(zip(starts, table[chosen], table[rejected], strict=True)):
        place = table.place(row)
        texts = _split(start, first, second, (prompt, chosen, rejected), repeated, place)
        require_prompt(texts[0], prompt or "shared prompt", place)
        blank = next((name for name, text in zip((chosen, rejected), texts[1:], strict=True) if not text.strip()), None)
        if blank and is_dropped(empty, "empty", f"{place} has an empty {blank!r} response"):
            continue
        kept.append(texts)
        rows.append(row)
    dropped = table.num_rows - len(kept)
    notes = [f"{dropped} of {table.num_rows} pairs dropped for an empty response"] if dropped else []
    if not kept:
        raise UserError(f"{table.path} has no pairs left; {notes[0]}")
    announce(table.path, notes)

    margins = None
    if better is not None and worse is not None:
        margins = (numbers(table, better) - numbers(table, worse))[rows]
    return Pairs(
        prompts=tuple(texts[0] for texts in kept),
        chosen=tuple(texts[1] for texts in kept),
        rejected=tuple(texts[2] for texts in kept),
        margins=margins,
        rows=np.array(rows, np.int64),
        num_rows=table.num_rows,
        notes=tuple(notes),
    )


def _split(
    prompt: Any, chosen: Any, rejected: Any, names: tuple[str | None, str, str], repeated: bool, place: Place
) -> tuple[str, str, str]:
    """Return the prompt and the two responses of a row as text; `repeated` if both begin with the prompt."""
    if isinstance(chosen, list) and isinstance(rejected, list):
        return split_messages(prompt, chosen, rejected, names, place)
    prompt_name, chosen_name, rejected_name = names
    first = text_of(chosen, chosen_name, place)
    second = text_of(rejected, rejected_name, place)
    if prompt_name is None:
        return split_dialogues(first, second, (chosen_name, rejected_name), place)
    start = text_of(prompt, prompt_name, place)
    if repeated:
        first, second = first[len(start) :], second[len(start) :]
    return start, first.strip(), second.strip()
