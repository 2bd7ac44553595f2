"""What a judge is told, and that a text cannot step out of its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from duelenv.ground.errors import UserError
from duelenv.oracles.judge import fences
from duelenv.oracles.judge.fences import fenced, mark_for
from duelenv.oracles.judge.templates import Template, read_template


def test_a_mark_is_the_same_for_the_same_and_another_for_anything_else() -> None:
    mark = mark_for(b"k", ("p", "a", "b"))
    assert mark == mark_for(b"k", ("p", "a", "b")) and len(mark) == 24
    others = [(b"k", ("p", "b", "a")), (b"l", ("p", "a", "b")), (b"k", ("pa", "", "b")), (b"k", ("p", "a", "b", ""))]
    assert len({mark, *(mark_for(*other) for other in others)}) == 5


def test_a_mark_stands_in_none_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fences, "_SIZE", 1)  # two digits, so that a text can hold all but one of them
    text = " ".join(f"{number:02x}" for number in range(256) if number != 0x5A)
    assert mark_for(b"k", (text,)) == "5a"


def test_messages_hold_each_text_between_marks_and_say_that_it_is_data() -> None:
    template = Template(read_template("short"), "Answer so.", b"k")
    system, user = template.messages("{first} of p", "a {x}", "b")
    mark = mark_for(b"k", (template.user, "{first} of p", "a {x}", "b"))
    assert (system["role"], user["role"]) == ("system", "user")
    assert mark in system["content"] and "data" in system["content"] and system["content"].endswith("Answer so.")
    places = [user["content"].index(fenced(text, mark)) for text in ("{first} of p", "a {x}", "b")]
    assert places == sorted(places)


def test_criteria_are_numbered_and_may_hold_braces() -> None:
    text = Template(read_template("criteria", ["short {x}", "true"]), "", b"").messages("p", "a", "b")[1]["content"]
    assert "1. short {x}\n2. true" in text
    assert "harmless" in read_template("criteria")
    assert "1. Only this" in read_template("criteria", "Only this")


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    text = "{prompt}|{second}|{first}|{{x}}"
    assert Template(read_template(text), "", b"").messages("p", "a", "b")[1]["content"].endswith("|{x}")
    (tmp_path / "mine.txt").write_text(text)
    assert read_template(str(tmp_path / "mine.txt")) == text


@pytest.mark.parametrize(
    ("template", "criteria", "said"),
    [
        ("{prompt} {first}", None, "{second} 0 times"),
        ("{prompt} {first} {first} {second}", None, "{first} 2 times"),
        ("{prompt} {first} {second} {third}", None, "{third}"),
        ("{prompt} {first} {second} {}", None, "{}"),
        ("{prompt} {first!r} {second}", None, "format"),
        ("{prompt} {first} {second", None, "braces"),
        ("no_such_file", None, "no_such_file"),
        ("short", ["x"], "criteria"),
        ("criteria", [], "criteria"),
        ("criteria", [""], "criteria"),
        (7, None, "template"),
    ],
)
def test_a_template_that_is_none_is_one_sentence(template: object, criteria: object, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("{", r"\{").replace("}", r"\}")) as caught:
        read_template(template, criteria)
    assert "\n" not in str(caught.value)
