"""A table to be labelled as questions: two responses a row, or every two of the responses to a prompt.

What a table says of its responses (labels, scores) is not shown and not needed: a column that says nothing stands in
for it, so that all of `duelenv.data` reads it, with its many formats.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from duelenv.data.choices import find_pair
from duelenv.data.columns import RESPONSE_NAMES, SCORE_NAMES, find_column, plain
from duelenv.data.pairs import load_pairs
from duelenv.data.rankings import nested_column, one_a_row, read_rows
from duelenv.data.tables import Table
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.sources import Request

_NOTHING: Final = "duelenv_nothing_said"
_SETTINGS: Final = ("prompt", "first", "second", "response")


@dataclass(frozen=True)
class ToLabel:
    """What a table asks.

    Attributes:
        requests: The questions, in the order in which they are asked.
        notes: What was left out or guessed, as sentences.
    """

    requests: Sequence[Request]
    notes: Sequence[str]


def read_questions(path: Path, **settings: Any) -> ToLabel:
    """Read a table of pairs, or of prompts with several responses.

    Args:
        path: A file as `duelenv.data.read_table` takes it.
        settings: Names of columns where the usual ones are not used: `prompt`, and `first` and `second`, or `response`.

    Raises:
        UserError: As `load_pairs`; or nothing is left to be asked.
    """
    checks.refuse_unknown("label", settings, _SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is worth a word is in the notes
        triples, notes = _triples(read_rows(path), **settings)
    equal = [one for one in triples if one[1] == one[2]]
    if equal:
        notes.append(f"{len(equal)} pairs of equal responses are not asked")
    kept = dict.fromkeys(one for one in triples if one[1] != one[2])
    repeated = len(triples) - len(equal) - len(kept)
    if repeated:
        notes.append(f"{repeated} repeated pairs are asked once")
    if not kept:
        raise UserError(f"{str(path)!r} has no pair of different responses to one prompt; there is nothing to label")
    requests = [Request(question_id(*texts), 0, row, *texts) for row, texts in enumerate(kept)]
    return ToLabel(requests, notes)


def question_id(prompt: str, first: str, second: str) -> str:
    """Return the name of a pair of a table: what is compared, wherever it stands."""
    texts = repr((prompt, first, second)).encode("utf-8", "surrogatepass")
    return f"table-{hashlib.sha256(texts).hexdigest()[:32]}"


def _triples(
    table: Table,
    *,
    prompt: str | None = None,
    first: str | None = None,
    second: str | None = None,
    response: str | None = None,
) -> tuple[list[tuple[str, str, str]], list[str]]:
    nested = nested_column(table, response)
    if first is None and second is None and (nested or response or _holds_single(table)):
        return _of_responses(table, nested, prompt, response)
    pair = find_pair(table, first, second)
    if pair is None:
        pairs = load_pairs(table, prompt=prompt, empty="drop")  # chosen and rejected, or it says what is missing
    else:
        silent = Table(table.path, {**_texts(table), _NOTHING: [1] * table.num_rows}, table.notes)
        pairs = load_pairs(
            silent, prompt=prompt, first=pair[0], second=pair[1], label=_NOTHING, first_wins=1, empty="drop"
        )
    return list(zip(pairs.prompts, pairs.chosen, pairs.rejected, strict=True)), _worth_saying(pairs.notes)


def _holds_single(table: Table) -> bool:
    return (
        find_pair(table) is None and find_column(table, "", None, RESPONSE_NAMES) is not None and "chosen" not in table
    )


def _texts(table: Table) -> dict[str, list[Any]]:
    """Keep a table's columns but for those that could be taken for scores."""
    scores = {plain(name) for name in SCORE_NAMES}
    return {name: cells for name, cells in table.items() if plain(name) not in scores}


def _of_responses(
    table: Table, nested: str | None, prompt: str | None, response: str | None
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Pair every two responses to a prompt: a first pair of every prompt, then a second of every prompt, and so on."""
    notes: list[str] = []
    if nested is not None:
        table, notes = one_a_row(table, nested)
        response = None if response == nested else response
    columns = _texts(table)
    name = response or find_column(table, "response", None, RESPONSE_NAMES)
    groups: dict[str, list[str]] = {}
    # A prompt at a time has any number of responses; rows with one prompt's text belong together.
    scored = Table(table.path, {**columns, _NOTHING: [0.0] * table.num_rows}, table.notes)
    for start, text in _read_singly(scored, prompt, name):
        groups.setdefault(start, []).append(text)
    alone = sum(len(set(texts)) < 2 for texts in groups.values())
    if alone:
        notes.append(f"{alone} prompts have fewer than two different responses and are left out")
    pairs = {start: list(itertools.combinations(dict.fromkeys(texts), 2)) for start, texts in groups.items()}
    turns = itertools.zip_longest(*([(start, *two) for two in _spread(of)] for start, of in pairs.items()))
    return [one for turn in turns for one in turn if one is not None], notes


def _spread(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put pairs in an order that depends on their texts alone: stopping early favours no response."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(repr(pair).encode("utf-8", "surrogatepass")).digest())


def _read_singly(table: Table, prompt: str | None, response: str | None) -> Iterable[tuple[str, str]]:
    """Read prompt and response of each row; a response is paired with itself, as single rows are read in pairs."""
    name = checks.text("response", response)
    twice = Table(table.path, {**table, f"{_NOTHING}_again": list(table[name])}, table.notes)
    pairs = load_pairs(
        twice, prompt=prompt, first=name, second=f"{_NOTHING}_again", label=_NOTHING, first_wins=0, empty="drop"
    )
    return zip(pairs.prompts, pairs.chosen, strict=True)


def _worth_saying(notes: Sequence[str]) -> list[str]:
    return [note for note in notes if _NOTHING not in note]
