"""Tables with one response a row, as pools; pairs of a chosen and a rejected response are read in `pairs`."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from duelenv.data import columns, scores
from duelenv.data.dialogues import after_prompt, after_turns, decoded, is_bare_word, side_of
from duelenv.data.faults import ON_FAULT, OnFault, announce, is_dropped, require_prompt
from duelenv.data.pool import Pool
from duelenv.data.prompts import Prompts
from duelenv.data.rankings import nested_column, one_a_row, read_rows, scored_by_rank
from duelenv.data.scores import Transform
from duelenv.data.tables import Table
from duelenv.ground import checks
from duelenv.ground.checks import one_of
from duelenv.ground.dialogue import prompt_text, response_text
from duelenv.ground.errors import UserError

Groups = Mapping[str, list[tuple[int, str]]]
"""Responses to each prompt: their rows and texts."""


def load_responses(
    path: Any,
    *,
    prompt: str | None = None,
    response: str | None = None,
    score: str | None = None,
    responder: str | None = None,
    transform: Transform = "auto",
    clip: float = 1e-6,
    temperature: float | None = None,
    num_responses: int | None = None,
    empty: OnFault = "error",
    duplicates: OnFault = "error",
) -> Pool:
    """Read a table with one response a row, or with all responses to a prompt in a list.

    Rows with the same prompt text belong together; they need not be adjacent. K is `num_responses`,
    or the most frequent number of responses a prompt has (the larger one of two equally frequent).
    Prompts with fewer are dropped, with a warning and a note that count them. Of a prompt with
    more, K are kept by a checksum of their text, which depends neither on their order in the table
    nor on their score.

    Args:
        path: A file, or a table in memory, as `read_table` takes them.
        prompt: Column of prompts, or several joined by "+" (`duelenv.data.prompts`): strings, or lists of messages
            {"role", "content"}. Here and below None takes the first column with a usual name (`PROMPT_NAMES` and the
            like in `duelenv.data.columns`).
        response: Column of responses.
        score: Column of scores, larger is better.
        responder: Column that names who wrote the response; the usual names are optional.
        transform: From scores s to utilities: "identity", s / temperature, or "logit", log(p / (1 -
            p)) / temperature for a probability p. "auto" is "logit" for a column whose name says
            that it holds probabilities ("p_...", "prob", "win_rate") and whose values all lie in
            [0, 1], "identity" for any other.
        clip: "logit" moves probabilities into [clip, 1 - clip] first.
        temperature: Divisor of the utilities; None is 3 for "logit" and 1 for "identity".
        num_responses: K.
        empty: What to do about a response without text: "error", "drop" the row, or "keep" it.
        duplicates: What to do about a row that repeats prompt, response, score and responder of an
            earlier one.

    Raises:
        UserError: The file is missing, of another kind or broken (with the line); it has no rows,
            or lacks a column (naming those it has); a score is not a finite number (with the row);
            a prompt is empty; an empty response or a repeated row; no prompt with K responses; a
            setting out of its range.
    """
    one_of("empty", empty, ON_FAULT)
    one_of("duplicates", duplicates, ON_FAULT)
    if num_responses is not None:
        checks.integer("num_responses", num_responses, low=2)  # a duel needs two
    table = read_rows(path)
    notes = list(table.notes)
    nested = nested_column(table, response if response in table else None)
    if nested is not None:
        table, said = one_a_row(table, nested)
        notes += said
        response = None if response == nested else response
    response = columns.require_column(table, "response", response, columns.RESPONSE_NAMES)
    score = columns.find_column(table, "score", score, columns.SCORE_NAMES) or _verdict(table, notes)
    if score is None:
        table, said = scored_by_rank(table)
        notes += said
    score = columns.require_column(table, "score", score, columns.SCORE_NAMES)
    responder = columns.find_column(table, "responder", responder, columns.RESPONDER_NAMES)
    listed = [name for name in table if columns.plain(name) in columns.PROMPT_NAMES]
    table, said = decoded(table, [*listed, response])
    prompts = Prompts(table, prompt, [name for name in (response, score, responder) if name])
    prompt = prompts.name or columns.require_column(table, "prompt", None, columns.PROMPT_NAMES)
    notes += [*said, *prompts.notes]
    utilities = scores.utilities(table, score, transform=transform, clip=clip, temperature=temperature)
    responders = None if responder is None else np.array([str(name) for name in table[responder]], dtype=object)

    faults: Counter[str] = Counter()
    whole = 0
    seen: dict[tuple[Any, ...], int] = {}
    groups: dict[str, list[tuple[int, str]]] = {}
    for row, cell in enumerate(table[response]):
        place = table.place(row)
        given = prompts[row]
        start = given if isinstance(given, str) else prompt_text(given or [], prompt, place)
        require_prompt(start, prompt, place)
        if cell is None:
            fault = f"{place} has nothing in {response!r}, expected text"
        else:
            side = side_of(cell, response, place)
            answer = after_turns(start, side)
            whole += answer != side
            text = answer if isinstance(answer, str) else response_text(answer)
            fault = "" if text.strip() else f"{place} has an empty {response!r}"
        if fault and is_dropped(empty, "empty", fault):
            faults["an empty response"] += 1
            continue
        text = "" if cell is None else text
        earlier = seen.setdefault((start, text, utilities[row], None if responders is None else responders[row]), row)
        if earlier != row and is_dropped(
            duplicates, "duplicates", f"{place} repeats prompt, response and score of row {earlier}"
        ):
            faults["a repeated row"] += 1
            continue
        groups.setdefault(start, []).append((row, text))
    lost = [f"{count} of {table.num_rows} rows dropped for {fault}" for fault, count in faults.items()]
    if not groups:
        raise UserError(f"{table.path} has no rows left; {'; '.join(lost)}")

    kept, dropped = _equal_sizes(groups, num_responses, prompt, table)
    kept, cut = _without_prompts(kept)
    if whole:
        cut.insert(
            0, f"{whole} of {table.num_rows} responses are dialogues that begin with the prompt's turns, cut off"
        )
    read = [*prompts.columns, response, score, responder]
    notes += [*lost, *dropped, *cut, *columns.passed_over(table, read)]
    announce(table.path, notes)

    rows = np.array([[row for row, _ in members] for members in kept.values()], np.int64)
    return Pool(
        prompts=tuple(kept),
        responses=np.array([[text for _, text in members] for members in kept.values()], dtype=object),
        utilities=utilities[rows],
        responders=None if responders is None else responders[rows],
        rows=rows,
        num_rows=table.num_rows,
        notes=tuple(notes),
        reading=columns.reading(
            table, [("prompt", prompt), ("response", response), ("score", score), ("responder", responder)]
        ),
    )


def _verdict(table: Table, notes: list[str]) -> str | None:
    """Find the column of true and false labels that single responses have for KTO, which can stand as a score."""
    name = columns.find_column(table, "score", None, ("label", "labels"))
    if name is None or not all(scores.is_flag(value) or columns.is_blank(value) for value in table[name]):
        return None
    notes.append(f"the score is {name!r}: 1 for true, 0 for false")
    return name


def _without_prompts(groups: Groups) -> tuple[Groups, list[str]]:
    """Return the groups with the prompt cut off where all responses begin with it, and a note that counts them."""
    result: dict[str, list[tuple[int, str]]] = {}
    cut = 0
    for start, members in groups.items():
        after = [after_prompt(start, text) for _, text in members]
        if is_bare_word(start) or not all(after):
            result[start] = members
            continue
        result[start] = [(row, text or "") for (row, _), text in zip(members, after, strict=True)]
        cut += 1
    return result, [f"all responses to {cut} of {len(groups)} prompts began with it, and it was cut off"] if cut else []


def _equal_sizes(groups: Groups, num_responses: int | None, prompt: str, table: Table) -> tuple[Groups, list[str]]:
    """Return the prompts with enough responses, K of each, and notes on what that leaves out."""
    size = num_responses or _usual_size(groups)
    kept = {start: _choose(start, members, size) for start, members in groups.items() if len(members) >= size}
    if size < 2 or not kept:
        raise UserError(
            f"{table.path} has at most {max(map(len, groups.values()))} responses to a prompt, expected at least "
            f"{max(size, 2)}; rows with the same {prompt!r} text are responses to one prompt"
        )
    notes: list[str] = []
    if len(kept) < len(groups):
        notes.append(f"{len(groups) - len(kept)} of {len(groups)} prompts dropped for fewer than {size} responses")
    shortened = sum(len(groups[start]) > size for start in kept)
    if shortened:
        notes.append(f"{shortened} prompts had more than {size} responses, of which {size} were kept")
    return kept, notes


def _usual_size(groups: Groups) -> int:
    counts = Counter(len(members) for members in groups.values() if len(members) >= 2)
    return max(counts, key=lambda size: (counts[size], size)) if counts else 1


def _choose(prompt: str, members: list[tuple[int, str]], size: int) -> list[tuple[int, str]]:
    """Return `size` members, chosen by their texts alone: tables are often sorted by score."""
    if len(members) == size:
        return members

    def checksum(member: tuple[int, str]) -> tuple[int, str]:
        return zlib.crc32(f"{prompt}\0{member[1]}".encode(errors="surrogatepass")), member[1]

    ranked = sorted(members, key=checksum)
    return sorted(ranked[:size])
