"""Tables with two responses a row and which was preferred, as pairs; single responses are read in `responses`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from duelenv.data import columns
from duelenv.data.choices import find_pair, read_choices
from duelenv.data.dialogues import (
    after_prompt,
    decoded,
    has_turns,
    is_bare_word,
    joined_turns,
    shared_words,
    side_of,
    split_dialogues,
    split_messages,
)
from duelenv.data.faults import ON_FAULT, OnFault, announce, is_dropped, require_prompt
from duelenv.data.pool import Pairs
from duelenv.data.prompts import Prompts
from duelenv.data.rankings import nested_column, read_rows
from duelenv.data.responses import load_responses
from duelenv.data.scores import numbers
from duelenv.data.tables import Place, Table
from duelenv.ground.checks import one_of
from duelenv.ground.dialogue import ASSISTANT, Message, prompt_text, read_messages, response_text, to_messages
from duelenv.ground.errors import UserError


@dataclass(frozen=True)
class _Preferences:
    """Two cells a row, the preferred one first, and what is known of them."""

    names: tuple[str, str]
    chosen: Sequence[Any]
    rejected: Sequence[Any]
    labels: Sequence[float | None]
    margins: Sequence[float] | None
    source: str | None
    notes: Sequence[str]


def load_pairs(
    path: Any,
    *,
    prompt: str | None = None,
    chosen: str | None = None,
    rejected: str | None = None,
    chosen_score: str | None = None,
    rejected_score: str | None = None,
    first: str | None = None,
    second: str | None = None,
    label: str | None = None,
    first_wins: str | float | None = None,
    first_score: str | None = None,
    second_score: str | None = None,
    empty: OnFault = "error",
) -> Pairs:
    r"""Read a table with one pair of responses a row: a chosen and a rejected one, or two and which was preferred.

    Two responses (`response_a` and `response_b`, `answer_0` and `answer_1`, ...) come with a label (A / B / tie, 0 / 1,
    -3 .. 3, the winner's name, ...), with columns that say who won, votes or scores. Single responses with scores, and
    rows with scored responses in a list, are read by `load_responses`, and every two that differ are a pair.

    The prompt is one column or several (`duelenv.data.prompts`). Without one, it is what the two responses share: of
    lists of messages {"role", "content"} the first ones; of dialogues in text, "\n\nHuman: ...\n\nAssistant: ...",
    what stands before the last "Assistant:" turn that both have; of any other text, where all rows have them, the first
    words. A prompt that both responses of a row repeat is taken away from them.

    Args:
        path: A file, or a table in memory, as `read_table` takes them.
        prompt: Column of prompts, or several joined by "+"; here and below None takes those with usual names.
        chosen: Column of preferred responses.
        rejected: Column of the others.
        chosen_score: Column of the preferred responses' scores.
        rejected_score: Column of the others' scores.
        first: Column of first responses, instead of `chosen`.
        second: Column of second responses, instead of `rejected`.
        label: Column that says which was preferred.
        first_wins: The label that says that the first was preferred, or a number on that side of 0; None guesses.
        first_score: Column of the first responses' scores: without a label, the larger was preferred.
        second_score: Column of the second ones' scores.
        empty: What to do about a row without a response's text or a label: "error", "drop" the pair, or "keep" it.

    Raises:
        UserError: As `load_responses`; also a row without a prompt, and a label that cannot be read. Two
            equal responses are no error: people are asked about equal texts, and answer.
    """
    one_of("empty", empty, ON_FAULT)
    table = read_rows(path)
    two = (first, second, label, first_wins, first_score, second_score)
    nested = nested_column(table)
    if (
        nested
        and chosen is None
        and rejected is None
        and not any(two)
        and not _is_chosen(table)
        and not find_pair(table)
    ):
        if _two_at(table) is None:
            return load_responses(table, prompt=prompt, empty=empty).pairs()
        table = _two_columns(table, nested)
    pair = None if chosen or rejected else find_pair(table, first, second)
    if pair is not None and (first is not None or not _is_chosen(table)):
        table, notes = decoded(table, [*pair, *_listed_prompts(table, prompt, pair)])
        found = _by_label(table, pair, label, first_wins, first_score, second_score)
    else:
        wrong = next((name for name, value in zip(_TWO, two, strict=True) if value is not None), None)
        if wrong:
            raise UserError(f"{wrong}= is for two responses a row; name them with first=.. and second=..")
        chosen = columns.find_column(table, "chosen", chosen, columns.CHOSEN_NAMES)
        rejected = columns.find_column(table, "rejected", rejected, columns.REJECTED_NAMES)
        if not chosen and not rejected and columns.find_column(table, "response", None, columns.RESPONSE_NAMES):
            return load_responses(table, prompt=prompt, empty=empty).pairs()
        if not chosen and not rejected:
            raise UserError(
                f"{table.path} has no pairs of responses among {', '.join(table)}; name them with chosen=.. and "
                "rejected=.., or with first=.., second=.. and label=.."
            )
        if chosen == rejected:
            raise UserError(f"chosen= and rejected= are both {chosen!r}; name the columns of two responses")
        chosen = chosen or columns.named_column(table, "chosen", "chosen")
        rejected = rejected or columns.named_column(table, "rejected", "rejected")
        table, notes = decoded(table, [chosen, rejected, *_listed_prompts(table, prompt, (chosen, rejected))])
        found = _by_column(table, chosen, rejected, chosen_score, rejected_score)
    prompts = Prompts(table, prompt, found.names, shared=True)
    notes = [*table.notes, *notes, *found.notes, *prompts.notes]
    kept, rows, faults = _texts(table, prompts, found, empty)
    notes += faults
    if not kept:
        raise UserError(f"{table.path} has no pairs left; {faults[0]}")
    tied = sum(found.labels[row] == 0.5 for row in rows)
    if tied:
        notes.append(f"{tied} of {len(rows)} pairs are ties, half a win for each of the two")
    read = [*found.names, *prompts.columns, *(found.source or "").split(" and ")]
    notes += columns.passed_over(table, read)
    announce(table.path, notes)
    labels = np.array([1.0 if found.labels[row] is None else found.labels[row] for row in rows], np.float64)
    texts = list(zip(*kept, strict=True))
    return Pairs(
        prompts=texts[0],
        chosen=texts[1],
        rejected=texts[2],
        margins=None if found.margins is None else np.array(found.margins, np.float64)[rows],
        rows=np.array(rows, np.int64),
        num_rows=table.num_rows,
        notes=tuple(notes),
        labels=None if (labels == 1.0).all() else labels,
        reading=columns.reading(
            table,
            [
                ("prompt", f"{prompts.name} and what both share" if prompts.only_system else prompts.name),
                ("prompt", None if prompts else "what both share"),
                ("chosen and rejected", "+".join(found.names)),
                ("preference", found.source and found.source.replace(" and ", "+")),
            ],
        ),
    )


_TWO = ("first", "second", "label", "first_wins", "first_score", "second_score")


def _is_chosen(table: Table) -> bool:
    """Tell whether a row has a chosen and a rejected response, rather than two others and the name of the chosen."""
    named = [columns.find_column(table, "", None, usual) for usual in (columns.CHOSEN_NAMES, columns.REJECTED_NAMES)]
    if named[0] is None or named[1] is None:
        return False
    pair = find_pair(table)
    return pair is None or any(
        not columns.is_blank(cell) and (len(str(cell).split()) > 1 or cell in texts)
        for cell, *texts in zip(table[named[0]], *(table[name] for name in pair), strict=True)
    )


def holds_pairs(table: Table) -> bool:
    """Tell whether a table holds pairs, rather than single responses, as its columns' names tell."""
    return _is_chosen(table) or find_pair(table) is not None or _two_at(table) is not None


def _two_at(table: Table) -> str | None:
    """Find the column of two responses whose preferred one a column names; lists with scores are rankings."""
    column = nested_column(table)
    if column is None or _most(table[column]) != 2 or not any(columns.plain(name) in _CHOICES for name in table):
        return None
    return column


_CHOICES = ("choice", "label", "preference", "winner", "best")


def _most(cells: Sequence[Any]) -> int:
    return max((len(cell) for cell in cells if isinstance(cell, list)), default=0)


def _two_columns(table: Table, nested: str) -> Table:
    """Turn a table with a list of two responses a row into one with a column for each."""
    for row, cell in enumerate(table[nested]):
        if not isinstance(cell, list) or len(cell) != 2:
            raise UserError(f"{table.place(row)} has {cell!r:.40} in {nested!r}, expected two responses; remove it")
    halves = {f"response_{number}": [cell[number] for cell in table[nested]] for number in (0, 1)}
    rest = {name: cells for name, cells in table.items() if name != nested}
    return Table(table.path, {**rest, **halves}, (*table.notes, f"{nested!r} is read as response_0 and response_1"))


def _listed_prompts(table: Table, prompt: str | None, besides: Sequence[str]) -> list[str]:
    """Find columns of prompts that may hold messages written as text."""
    if prompt is not None:
        return [name for name in str(prompt).split("+") if name in table]
    return [name for name in table if columns.plain(name) in columns.PROMPT_NAMES and name not in besides]


def _by_column(
    table: Table, chosen: str, rejected: str, chosen_score: str | None, rejected_score: str | None
) -> _Preferences:
    turned = columns.plain(chosen) in columns.REJECTED_NAMES  # whose scores then do not go with these names
    better, worse = (
        columns.find_column(table, meaning, name, () if turned else usual)
        for meaning, name, usual in (
            ("chosen_score", chosen_score, columns.CHOSEN_SCORE_NAMES),
            ("rejected_score", rejected_score, columns.REJECTED_SCORE_NAMES),
        )
    )
    if (better is None) != (worse is None) and (chosen_score or rejected_score):
        raise UserError(
            f"{table.path} has scores only in column {better or worse!r}; give both chosen_score and rejected_score"
        )
    margins = source = None
    if better is not None and worse is not None:
        margins = (numbers(table, better) - numbers(table, worse)).tolist()
        source = f"{better} and {worse}"
    labels: list[float | None] = [1.0] * table.num_rows
    tie = columns.find_column(table, "tie", None, columns.TIE_NAMES)
    if tie is not None:
        labels = [0.5 if is_true(value, tie, table.place(row)) else 1.0 for row, value in enumerate(table[tie])]
        source = f"{source} and {tie}" if source else tie
    return _Preferences((chosen, rejected), table[chosen], table[rejected], labels, margins, source, ())


def is_true(value: object, name: str, place: Place) -> bool:
    """Return what a cell says that is true or false, or empty for false.

    Raises:
        UserError: It says something else.
    """
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "none": False, "": False}
    word = str(value).strip().lower()
    if word not in known:
        raise UserError(f"{place} has the {name} {value!r}, expected true or false")
    return known[word]


def _by_label(
    table: Table,
    pair: tuple[str, str],
    label: str | None,
    first_wins: Any,
    first_score: str | None,
    second_score: str | None,
) -> _Preferences:
    said = read_choices(
        table, pair, label=label, first_wins=first_wins, first_score=first_score, second_score=second_score
    )
    first, second = table[pair[0]], table[pair[1]]
    turned = [share is not None and share < 0.5 for share in said.shares]
    margins = said.margins
    return _Preferences(
        names=pair,
        chosen=[b if turn else a for a, b, turn in zip(first, second, turned, strict=True)],
        rejected=[a if turn else b for a, b, turn in zip(first, second, turned, strict=True)],
        labels=[None if share is None else max(share, 1.0 - share) for share in said.shares],
        margins=None if margins is None else [-m if turn else m for m, turn in zip(margins, turned, strict=True)],
        source=said.source,
        notes=said.notes,
    )


# Texts ----------------------------------------------------------------------------------------------------------------


def _texts(
    table: Table, prompts: Prompts, found: _Preferences, empty: OnFault
) -> tuple[list[tuple[str, str, str]], list[int], list[str]]:
    """Return prompt, chosen and rejected of the rows that are kept, the rows, and what to say of the others."""
    names = (prompts.name, *found.names)
    kept: list[tuple[str, str, str]] = []
    rows: list[int] = []
    stripped = single = unsaid = 0
    by_words = (not prompts or prompts.only_system) and _share_words(found.chosen, found.rejected)
    always = _always_repeated(prompts, found)
    for row, (chosen, rejected) in enumerate(zip(found.chosen, found.rejected, strict=True)):
        place = table.place(row)
        blank = next(
            (name for name, cell in zip(found.names, (chosen, rejected), strict=True) if columns.is_blank(cell)), None
        )
        if found.labels[row] is None:
            if is_dropped(empty, "empty", f"{place} has nothing in {found.source!r}"):
                unsaid += 1
                continue
            raise UserError(f"{place} has nothing in {found.source!r}, which no pair can be kept without; drop it")
        if blank and is_dropped(empty, "empty", f"{place} has an empty {blank!r} response"):
            continue
        if blank:
            chosen, rejected = ("" if columns.is_blank(cell) else cell for cell in (chosen, rejected))
        texts, repeats = _split(prompts, row, chosen, rejected, names, by_words, place)
        require_prompt(texts[0], prompts.name or "shared prompt", place)
        if repeats:
            after = [after_prompt(texts[0], text) for text in texts[1:]]
            if after[0] and after[1] and (always or not is_bare_word(texts[0])):
                texts = texts[0], after[0], after[1]
                stripped += 1
            elif (after[0] or after[1]) and not is_bare_word(texts[0]):
                single += 1
        blank = next((name for name, text in zip(found.names, texts[1:], strict=True) if not text.strip()), None)
        if blank and is_dropped(empty, "empty", f"{place} has an empty {blank!r} response"):
            continue
        kept.append(texts)
        rows.append(row)
    notes = []
    for count, reason in ((unsaid, "no label"), (table.num_rows - len(kept) - unsaid, "an empty response")):
        if count:
            notes.append(f"{count} of {table.num_rows} pairs dropped for {reason}")
    if stripped:
        notes.append(
            f"both responses of {stripped} of {table.num_rows} pairs began with their prompt, which was cut off"
        )
    if single:
        notes.append(
            f"one response of {single} of {table.num_rows} pairs begins with its prompt, and was left as it is"
        )
    if by_words:
        notes.append("no column of prompts: the words with which both responses of a pair begin are its prompt")
    return kept, rows, notes


def _share_words(chosen: Sequence[Any], rejected: Sequence[Any]) -> bool:
    """Tell whether all rows are texts that begin with the same words and are no dialogues."""
    return all(
        isinstance(one, str)
        and isinstance(other, str)
        and not has_turns(one + other)
        and 0 < shared_words(one, other) < min(len(one.rstrip()), len(other.rstrip()))
        for one, other in zip(chosen, rejected, strict=True)
    )


def _always_repeated(prompts: Prompts, found: _Preferences) -> bool:
    """Tell whether all texts of a table begin with their prompts: then so do those to a prompt of one word."""
    if len(prompts.columns) != 1:
        return False
    cells = zip(found.chosen, found.rejected, strict=True)
    return all(
        isinstance(start := prompts.cell(prompts.columns[0], row), str)
        and all(isinstance(cell, str) and after_prompt(start, cell) for cell in pair)
        for row, pair in enumerate(cells)
    )


def _split(
    prompts: Prompts,
    row: int,
    chosen: Any,
    rejected: Any,
    names: tuple[str | None, str, str],
    by_words: bool,
    place: Place,
) -> tuple[tuple[str, str, str], bool]:
    """Return the prompt and the two responses of a row as text, and whether the responses may repeat the prompt."""
    prompt_name, chosen_name, rejected_name = names
    if len(prompts.columns) == 1:
        cell = prompts.cell(prompts.columns[0], row)
        turns = joined_turns(cell, chosen), joined_turns(cell, rejected)
        if turns[0] and turns[1]:
            sides = read_messages(turns[0], chosen_name, place), read_messages(turns[1], rejected_name, place)
            return split_messages(None, *sides, (None, chosen_name, rejected_name), place), True
    start = prompts[row]
    first, second = side_of(chosen, chosen_name, place), side_of(rejected, rejected_name, place)
    if isinstance(first, list) and isinstance(second, list):
        return split_messages(start, first, second, names, place), True
    mixed = isinstance(first, str) != isinstance(second, str)
    if mixed and any(isinstance(side, list) and side[0].role != "assistant" for side in (first, second)):
        raise UserError(
            f"{place} has a dialogue in one of {chosen_name!r} and {rejected_name!r} and text in the other, expected "
            "the same in both; write the two as responses alone"
        )
    one, two = (side if isinstance(side, str) else response_text(side) for side in (first, second))
    if start is None or prompts.only_system:
        if by_words:
            length = shared_words(one, two)
            texts = one[:length].strip(), one[length:].strip(), two[length:].strip()
        else:
            texts = split_dialogues(one, two, (chosen_name, rejected_name), place)
        if isinstance(start, list):
            texts = prompt_text([*start, *to_messages(texts[0])], chosen_name, place), *texts[1:]
        return texts, not by_words
    if not isinstance(start, str):
        start = prompt_text(start, prompt_name or chosen_name, place)
    if _is_whole(start, one) and _is_whole(start, two):
        return split_dialogues(one, two, (chosen_name, rejected_name), place), True
    return (start, one.strip(), two.strip()), True


def _is_whole(prompt: str, response: str) -> bool:
    """Tell whether a response is a dialogue in text that says the prompt before its last "Assistant:" turn."""
    before, mark, _ = response.strip().rpartition(ASSISTANT)
    said = to_messages(before + mark) if mark else []
    return bool(said) and all(Message(role, text.strip()) in said for role, text in to_messages(prompt))
