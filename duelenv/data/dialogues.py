r"""Text and messages from the cells of a table, and what a prompt and two responses to it share.

How a dialogue is written is in `duelenv.ground.dialogue`. Not for chat templates: what a model reads is the policy's
affair.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from duelenv.data.columns import is_blank
from duelenv.data.tables import Place, Table
from duelenv.ground.dialogue import (
    ASSISTANT,
    Message,
    is_messages,
    prompt_text,
    read_messages,
    response_text,
    to_messages,
)
from duelenv.ground.errors import UserError

Side = str | list[Message]
"""What one side of a pair holds: text, or messages."""

_TEXT_KEYS = ("content", "value", "text", "full_text", "response", "answer", "output", "completion")
_TURN_MARKS = re.compile(
    r"\n\nAssistant:|<\|im_start\|>assistant\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|"
    r"<start_of_turn>model\n|<\|assistant\|>\n?|### ?(?:Assistant|Response):|\[/INST\]"
)
"""Where the assistant's turn begins in dialogues written as text: HH-RLHF's mark, and those of chat templates."""
_IN_A_WORD = re.compile(r"['\u2019_-]?\w|[.,]\d")


def text_of(value: Any, name: str, place: Place) -> str:
    """Return the text of a response's cell: a string, messages, or a mapping with one text in it.

    Args:
        value: What the cell holds.
        name: Its column.
        place: Its row.

    Raises:
        UserError: It holds something else.
    """
    side = side_of(value, name, place)
    return side if isinstance(side, str) else response_text(side)


def side_of(value: Any, name: str, place: Place) -> Side:
    """Return a cell as text or messages.

    Raises:
        UserError: It holds something else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if _is_message(value):
            return read_messages([value], name, place)
        texts = [key for key in _TEXT_KEYS if isinstance(value.get(key), str)]
        if len(texts) == 1:
            return str(value[texts[0]])
    elif isinstance(value, list) and value:
        return read_messages(value, name, place)
    found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
    raise UserError(f"{place} has {found} in {name!r}, expected text; fill it in or remove the row")


def decoded(table: Table, names: Sequence[str]) -> tuple[Table, list[str]]:
    """Return a table whose columns of messages written as text, as CSV holds them, are messages, and what to say of it.

    A column is taken so where every text in it is a message or a list of them in JSON or as Python or NumPy prints it;
    and all named columns together where every text in them is a list of turns in JSON, as many in all of a row.
    """
    found: dict[str, list[Any]] = {}
    turns: dict[str, list[Any]] = {}
    for name in names:
        if name not in table:  # a part of a column
            continue
        cells = [None if is_blank(cell) else cell for cell in table[name]]
        if not all(cell is None or (isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{")) for cell in cells):
            continue
        values = [None if cell is None else parsed(cell) for cell in cells]
        given = [value for value, cell in zip(values, cells, strict=True) if cell is not None]
        if given and all(is_messages(value) or _is_message(value) for value in given):
            found[name] = values
        elif given and all(_is_turns(value) for value in given):
            turns[name] = values
    if set(turns) == set(names):
        rows = zip(*turns.values(), strict=True)
        if all(len({len(cell or ()) for cell in row}) == 1 for row in rows):
            found |= turns
    if not found:
        return table, []
    return Table(table.path, {**table, **found}, table.notes), [spelled(found)]


def spelled(names: Iterable[str]) -> str:
    """Return what to say of columns whose text is read as what it spells."""
    return f"the text in {' and '.join(map(repr, names))} is read as the lists that it spells"


def parsed(cell: str) -> Any:
    """Return what a cell spells in JSON or as Python or NumPy prints it; None where it spells nothing."""
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval, _of_numpy)
    for parse in readers:
        try:
            return parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _of_numpy(cell: str) -> Any:
    """Read an array of mappings, which has line breaks where a list has commas; those within texts are escaped."""
    return ast.literal_eval(re.sub(r"\}\s*\n\s*\{", "}, {", cell))


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= {*value} or {"from", "value"} <= {*value})


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(turn is None or isinstance(turn, str) for turn in value)


def joined_turns(prompt: Any, response: Any) -> list[dict[str, str]] | None:
    """Return the conversation of a list of the user's turns and as many of the assistant's; None if these are none."""
    if not _is_turns(prompt) or not _is_turns(response) or len(prompt) != len(response):
        return None
    return [
        {"role": role, "content": text or ""}
        for turns in zip(prompt, response, strict=True)
        for role, text in zip(("user", "assistant"), turns, strict=True)
    ]


# A prompt and two responses -------------------------------------------------------------------------------------------


def split_messages(
    prompt: Side | None,
    chosen: Sequence[Message],
    rejected: Sequence[Message],
    names: tuple[str | None, str, str],
    place: Place,
) -> tuple[str, str, str]:
    """Return the prompt and the two responses of two lists of messages.

    Args:
        prompt: The prompt's text or messages, or None without a column of prompts.
        chosen: Messages of the preferred side.
        rejected: Messages of the other side.
        names: Columns of the three; None without a column of prompts.
        place: Their row.

    Raises:
        UserError: There is no prompt, neither given nor shared; or both are there and have nothing in common.
    """
    prompt_name, chosen_name, rejected_name = names
    number = 0
    while number < min(len(chosen), len(rejected)) - 1 and chosen[number] == rejected[number]:
        number += 1
    while number and chosen[number - 1].role == "assistant":
        number -= 1  # they differ in what the user said next: the response begins before
    shared = list(chosen[:number])
    if prompt is None and not shared:
        raise UserError(
            f"{place}: {chosen_name!r} and {rejected_name!r} share no first message, so there is no prompt; "
            "name a column with prompt=.."
        )
    for side, name in ((chosen, chosen_name), (rejected, rejected_name)):
        if side[number].role != "assistant":
            raise UserError(
                f"{place} has a turn of {side[number].role!r} in {name!r} where the assistant's response is expected; "
                "both sides need the same prompt: remove the row"
            )
    responses = response_text(chosen[number:]), response_text(rejected[number:])
    if not shared and isinstance(prompt, str):
        return prompt, *responses
    start = shared
    if prompt is not None:
        given = [
            Message(role, text.strip()) for role, text in (to_messages(prompt) if isinstance(prompt, str) else prompt)
        ]
        start = _overlaid(given, shared)
        if not start:
            raise UserError(
                f"{place} has a prompt in {prompt_name!r} that is none of the first messages of {chosen_name!r} and "
                f"{rejected_name!r}; correct the row, or remove the column if the messages are right"
            )
    return prompt_text(start, prompt_name or chosen_name, place), *responses


def _overlaid(given: list[Message], shared: list[Message]) -> list[Message]:
    """Return the dialogue that two parts of it, which may repeat each other, make; empty if they do not fit."""
    said = [(role, text.split()) for role, text in shared]  # columns and messages differ in line breaks
    if all((role, text.split()) in said for role, text in given):
        return shared
    if all(message in given for message in shared):
        return given
    for size in range(min(len(given), len(shared)) - 1, -1, -1):
        if given[len(given) - size :] == shared[:size] and (size or given[-1].role != "user"):
            return given + shared[size:]
    return []


def split_dialogues(chosen: str, rejected: str, names: tuple[str, str], place: Place) -> tuple[str, str, str]:
    """Return the prompt and the two responses of two dialogues in text.

    The prompt is what both share up to the last "Assistant:" turn in it.

    Raises:
        UserError: They share no such turn.
    """
    end = last_shared_turn(chosen, rejected)
    if not end:
        raise UserError(
            f"{place}: {names[0]!r} and {names[1]!r} are not dialogues that share an 'Assistant:' turn, "
            "so there is no prompt; name a column with prompt=.."
        )
    return chosen[:end].strip(), chosen[end:].strip(), rejected[end:].strip()


def last_shared_turn(chosen: str, rejected: str) -> int:
    """Return where the assistant's last turn that two dialogues share begins, or 0."""
    marks = list(_TURN_MARKS.finditer(chosen, 0, shared_length(chosen, rejected)))
    return marks[-1].end() if marks else 0


def has_turns(text: str) -> bool:
    """Tell whether a text is a dialogue: whether it says where an assistant's turn begins."""
    return _TURN_MARKS.search(text) is not None


def shared_length(first: str, second: str) -> int:
    """Return how many characters two texts share at their beginning."""
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def shared_words(chosen: str, rejected: str) -> int:
    """Return the length of what two texts share at their beginning, up to the last end of a word."""
    length = shared_length(chosen, rejected)
    while length and (
        not all(_is_boundary(text, length) for text in (chosen, rejected)) or chosen[length - 1].isspace()
    ):
        length -= 1
    return length


def after_prompt(prompt: str, response: str) -> str | None:
    """Return what follows the prompt in a response that repeats it, or None where it does not.

    Of a dialogue, the user's last turn is enough, unless that is a single word. White space may differ. The prompt must
    end where a word ends, and something must follow.
    """
    asked = _last_turn(prompt)
    return _after(prompt, response) or (_after(asked, response) if asked and not is_bare_word(asked) else None)


@lru_cache(maxsize=1)  # both responses of a row have the same
def _last_turn(prompt: str) -> str | None:
    turns = to_messages(prompt) if prompt.rstrip().endswith(ASSISTANT) else []
    return turns[-1].content if turns and turns != [Message("user", prompt)] else None


def _after(prompt: str, response: str) -> str | None:
    position = 0
    for number, word in enumerate(prompt.split()):
        start = position
        while position < len(response) and response[position].isspace():
            position += 1
        if (number and position == start) or not response.startswith(word, position):
            return None
        position += len(word)
    if not position or not _is_boundary(response, position):
        return None
    return response[position:].strip() or None


def after_turns(prompt: str, side: Side) -> Side:
    """Return a response without the prompt's turns, where it is a dialogue that begins with them."""
    turns = [Message(role, text.strip()) for role, text in to_messages(prompt)]
    if isinstance(side, str):
        before, mark, answer = side.strip().rpartition(ASSISTANT)
        return answer.strip() if mark and to_messages(before + mark) == turns else side
    whole = len(side) > len(turns) and side[: len(turns)] == turns and side[len(turns)].role == "assistant"
    return side[len(turns) :] if whole else side


def _is_boundary(text: str, position: int) -> bool:
    inside = position and (text[position - 1].isalnum() or text[position - 1] == "_")
    # "well-" before "known" is within a word as "well" before "-known" is
    joined = position > 1 and text[position - 2].isalnum() and _IN_A_WORD.match(text, position - 1)
    return not ((inside and _IN_A_WORD.match(text, position)) or (not inside and joined))


def is_bare_word(prompt: str) -> bool:
    """Tell whether a prompt is a single word, with which answers may begin by themselves."""
    return len(prompt.split()) == 1 and prompt.strip().replace("_", "a").isalnum()


def in_one_form(prompt: str) -> str:
    """Return a prompt's text, without the white space around it if it is a dialogue."""
    text = prompt.strip()
    return text if text.endswith(ASSISTANT) else prompt
