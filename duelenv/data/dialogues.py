r"""Text from the cells of a table: plain strings, lists of messages, and dialogues that two responses share.

A dialogue in text is written as HH-RLHF writes it, "Human: ...\n\nAssistant: ...". Not for chat templates: what a model
reads is the policy's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duelenv.data.tables import Place
from duelenv.ground.errors import UserError

ASSISTANT = "\n\nAssistant:"
_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


def text_of(value: Any, name: str, place: Place) -> str:
    """Return a cell's text: a string, or messages {"role", "content"} as a dialogue.

    Args:
        value: What the cell holds.
        name: Its column.
        place: Its row.

    Raises:
        UserError: It holds something else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        return _dialogue(value, name, place)
    found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
    raise UserError(f"{place} has {found} in {name!r}, expected text; fill it in or remove the row")


def split_messages(
    prompt: Any, chosen: Sequence[Any], rejected: Sequence[Any], names: tuple[str | None, str, str], place: Place
) -> tuple[str, str, str]:
    """Return the prompt and the two responses of two lists of messages.

    Args:
        prompt: The prompt's cell: text, messages, or None without a column of prompts.
        chosen: Messages of the preferred side.
        rejected: Messages of the other side.
        names: Columns of the three; None without a column of prompts.
        place: Their row.

    Raises:
        UserError: There is no prompt, neither given nor shared; a message lacks its role or content.
    """
    prompt_name, chosen_name, rejected_name = names
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if prompt_name is None and shared == 0:
        raise UserError(
            f"{place}: {chosen_name!r} and {rejected_name!r} share no first message, so there is no prompt; "
            "name a column with prompt=.."
        )
    given = prompt
    if shared and (prompt_name is None or isinstance(prompt, str)):
        # A prompt in words beside whole conversations repeats one of their messages.
        given = chosen[:shared]
    text = text_of(given, prompt_name or chosen_name, place)
    if isinstance(given, list) and len(given) > 1:
        text += ASSISTANT  # whose turn it is, as in the dialogues that come as text
    return text, _dialogue(chosen[shared:], chosen_name, place), _dialogue(rejected[shared:], rejected_name, place)


def split_dialogues(chosen: str, rejected: str, names: tuple[str, str], place: Place) -> tuple[str, str, str]:
    """Return the prompt and the two responses of two dialogues in text.

    The prompt is what both share up to the last "Assistant:" turn in it.

    Raises:
        UserError: They share no such turn.
    """
    length = next(
        (at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    turn = chosen.rfind(ASSISTANT, 0, length)
    if turn < 0:
        raise UserError(
            f"{place}: {names[0]!r} and {names[1]!r} are not dialogues that share an 'Assistant:' turn, "
            "so there is no prompt; name a column with prompt=.."
        )
    end = turn + len(ASSISTANT)
    return chosen[:end].strip(), chosen[end:].strip(), rejected[end:].strip()


def _dialogue(messages: Sequence[Any], name: str, place: Place) -> str:
    r"""Return one message's content, or several messages as "Human: ...\n\nAssistant: ..."."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, str) or "role" not in message:
            raise UserError(
                f"{place} has a message without role and content in {name!r}; "
                'give messages as {"role": ..., "content": ...}'
            )
        turns.append((str(message["role"]), content.strip()))
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{_SPEAKERS.get(role, role)}: {content}" for role, content in turns)
