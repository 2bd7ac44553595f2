r"""Dialogues: messages in any of the usual containers, and the one text that stands for them everywhere.

A dialogue in text is written as HH-RLHF writes it, "Human: ...\n\nAssistant: ...". A prompt ends in "Assistant:", whose
turn it is; a prompt that is one message of the user is that message, without a speaker. Worlds, tables, prompt files
and reward models all go through here; `to_messages` leads back, for chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from duelenv.ground.errors import UserError

__all__ = [
    "ASSISTANT",
    "Message",
    "is_messages",
    "prompt_of",
    "prompt_text",
    "read_messages",
    "read_role",
    "response_text",
    "to_messages",
]

ASSISTANT = "\n\nAssistant:"

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""What containers call the three roles: `role` of OpenAI and Gemini, `from` of ShareGPT, OpenAssistant's."""

_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}
_ROLE_OF = {speaker: role for role, speaker in _SPEAKERS.items()}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant|System):")
_CALLS = ("tool_calls", "function_call", "tool_call_id")


class Message(NamedTuple):
    """A turn of a dialogue.

    Attributes:
        role: "user", "assistant" or "system".
        content: What is said, without white space around it.
    """

    role: str
    content: str


def is_messages(value: Any) -> bool:
    """Tell whether a value is a list of messages, as far as its first one tells."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and isinstance(value[0], Mapping)
        and ("role" in value[0] or "from" in value[0])
    )


def read_messages(value: Sequence[Any], name: str, place: object) -> list[Message]:
    """Return messages in one form.

    Args:
        value: Mappings {"role", "content"} or, as ShareGPT has them, {"from", "value"}. A content may be a list of
            parts {"type": "text", "text"}, which are joined by line breaks.
        name: What holds them, for errors: a column.
        place: Where that is: a row.

    Raises:
        UserError: A message lacks its role or content, or is none of the three roles' (a tool's turn).
    """
    return [_read_message(message, name, place) for message in value]


def _read_message(message: Any, name: str, place: object) -> Message:
    lacking = UserError(
        f"{place} has a message without role and content in {name!r}; "
        'give messages as {"role": ..., "content": ...} or {"from": ..., "value": ...}'
    )
    if not isinstance(message, Mapping):
        raise lacking
    given = _given_role(message)
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if not isinstance(given, str):
        raise lacking
    role = _ROLES.get(given.strip().lower())
    call = next((key for key in _CALLS if message.get(key)), None)
    if role is None or call is not None:
        what = f"a {call}" if role else f"a turn of {given!r}"
        raise UserError(
            f"{place} has {what} in {name!r}, expected turns of user, assistant and system; "
            "tools have no place in these dialogues: leave it out"
        )
    if isinstance(content, list):
        content = "\n".join(_part(part, name, place) for part in content)
    if not isinstance(content, str):
        raise lacking
    return Message(role, content.strip())


def _given_role(message: Mapping[str, Any]) -> Any:
    return message.get("role") if message.get("role") is not None else message.get("from")


def read_role(message: Mapping[str, Any]) -> str | None:
    """Return the role of a message in whatever words, None if it is none of the three."""
    return _ROLES.get(str(_given_role(message)).strip().lower())


def _part(part: Any, name: str, place: object) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        kind = part.get("type", "unknown") if isinstance(part, Mapping) else type(part).__name__
        raise UserError(f"{place} has a content part of type {kind!r} in {name!r}, expected text; leave it out")
    return text


def prompt_text(messages: Sequence[Message], name: str, place: object) -> str:
    """Return the text of a dialogue that the assistant is to go on with.

    Args:
        messages: At least one; the last is not the assistant's.
        name: What holds them, for errors.
        place: Where that is.

    Raises:
        UserError: There is none, or the assistant has spoken last.
    """
    if not messages:
        raise UserError(f"{place} has no messages in {name!r}; a response needs a prompt: remove the row")
    if messages[-1].role == "assistant":
        raise UserError(
            f"{place} has a prompt in {name!r} that ends with the assistant's turn, expected the user's; leave it out"
        )
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return _written(messages) + ASSISTANT


def prompt_of(value: Any, name: str, place: object) -> str:
    """Return the text of a prompt in whatever container it comes: a string as it is, or messages.

    Args:
        value: A string, or messages as `read_messages` takes them.
        name: What holds it, for errors.
        place: Where that is.

    Raises:
        UserError: It is neither, or as `read_messages` and `prompt_text`.
    """
    text = value if isinstance(value, str) else None
    if text is None and is_messages(value):
        text = prompt_text(read_messages(value, name, place), name, place)
    if text is None:
        raise UserError(f"{place} is {value!r}, expected a string or a list of messages; correct it")
    return text


def response_text(messages: Sequence[Message]) -> str:
    """Return the text of what follows a prompt: the assistant's answer, or an exchange that begins with it."""
    if messages and messages[0].role == "assistant":
        return (messages[0].content + "".join(f"\n\n{_written([message])}" for message in messages[1:])).strip()
    return _written(messages)


def _written(messages: Sequence[Message]) -> str:
    return "\n\n".join(f"{_SPEAKERS[role]}: {content}" for role, content in messages)


def to_messages(prompt: str) -> list[Message]:
    """Return the messages that a prompt's text stands for.

    A text that is no dialogue, which begins with a speaker and ends in "Assistant:", is one message of the user. A
    content that itself holds a line "Human:" or "Assistant:" after an empty one is read as two turns.
    """
    text = prompt.strip()
    if not text.endswith(ASSISTANT) or not _TURN.match(text):
        return [Message("user", prompt)]
    _, *parts = _TURN.split(text.removesuffix(ASSISTANT))
    return [
        Message(_ROLE_OF[speaker], content.strip()) for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
