"""One text for one dialogue, whatever container it came in, and back."""

from __future__ import annotations

from typing import Any

import pytest

from duelenv import UserError
from duelenv.ground.dialogue import Message, prompt_text, read_messages, response_text, to_messages

TURNS = [("system", "Be brief."), ("user", "hi"), ("assistant", "hello"), ("user", "and?\n\nYes: really")]
TEXT = "System: Be brief.\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nYes: really\n\nAssistant:"
SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system"}


@pytest.mark.parametrize(
    "container",
    [
        [{"role": role, "content": content} for role, content in TURNS],
        [{"role": role.upper(), "content": f"\n{content} "} for role, content in TURNS],
        [{"from": SHAREGPT[role], "value": content} for role, content in TURNS],
        [{"role": role, "content": [{"type": "text", "text": content, "image": None}]} for role, content in TURNS],
        [{"role": role, "content": content, "from": None, "tool_calls": None} for role, content in TURNS],
    ],
)
def test_every_container_becomes_the_same_text_which_leads_back(container: list[dict[str, Any]]) -> None:
    messages = read_messages(container, "prompt", "row 0")
    assert prompt_text(messages, "prompt", "row 0") == TEXT
    assert to_messages(TEXT) == messages == [Message(*turn) for turn in TURNS]


def test_one_message_of_the_user_is_its_content_and_a_dialogue_in_text_means_the_same() -> None:
    assert prompt_text([Message("user", "hi")], "prompt", "row 0") == "hi"
    assert to_messages("hi") == to_messages("\n\nHuman: hi\n\nAssistant:") == [Message("user", "hi")]
    assert to_messages("Human: hi") == [Message("user", "Human: hi")]


def test_a_response_does_not_name_its_speaker_unless_another_one_comes() -> None:
    messages = [Message("assistant", "yes"), Message("user", "so?"), Message("assistant", "no")]
    assert response_text(messages[:1]) == "yes"
    assert response_text(messages) == "yes\n\nHuman: so?\n\nAssistant: no"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"role": "tool", "content": "4"}, "row 7 has a turn of 'tool' in 'chosen'"),
        ({"from": "function_call", "value": "f()"}, "a turn of 'function_call'"),
        ({"role": "assistant", "content": None, "tool_calls": [{}]}, "has a tool_calls in 'chosen'"),
        ({"role": "user", "content": [{"type": "image"}]}, "a content part of type 'image'"),
        ({"role": "user"}, "without role and content"),
        ({"content": "a"}, "without role and content"),
        ("a", "without role and content"),
    ],
)
def test_what_is_no_message_gets_one_sentence(message: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read_messages([{"role": "user", "content": "a"}, message], "chosen", "row 7")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_prompt_that_the_assistant_ends_is_refused() -> None:
    with pytest.raises(UserError, match="ends with the assistant's turn"):
        prompt_text([Message("user", "a"), Message("assistant", "b")], "prompt", "row 0")
