"""What a reply says: by mass over the verdict's tokens, else by one word, and never by prose."""

from __future__ import annotations

import math
from typing import Any

import pytest
from judge_stub import MODEL, completion

from duelenv.ground.errors import UserError
from duelenv.oracles.judge.verdicts import NoVerdict, Reply, Token, read_reply, reading
from duelenv.oracles.services.retrying import Unreadable


def logs(**probabilities: float) -> dict[str, float]:
    return {word: math.log(p) for word, p in probabilities.items()}


def test_the_mass_of_all_spellings_is_renormalised() -> None:
    top = {"A": math.log(0.3), " A": math.log(0.2), "a": math.log(0.1), "B": math.log(0.15), "\u2581b": math.log(0.05)}
    verdict = reading("logprobs").verdict(Reply("A", (Token("A", {**top, "The": math.log(0.2)}),)))
    assert verdict.win == pytest.approx(0.6 / 0.8) and verdict.tie == 0.0 and not verdict.said


def test_a_letter_for_ties_takes_its_share() -> None:
    reply = Reply("C", (Token("C", logs(A=0.2, B=0.3, C=0.5)),))
    verdict = reading("auto", ties=True).verdict(reply)
    assert (verdict.win, verdict.tie) == (pytest.approx(0.2), pytest.approx(0.5))
    assert verdict.expected == pytest.approx(0.45)
    with pytest.raises(NoVerdict):
        reading("auto").verdict(reply)  # not offered
    second = Reply("B", (Token("B", logs(A=0.2, B=0.6, C=0.2)),))
    assert reading("auto").verdict(second).win == pytest.approx(0.25)  # nor counted


def test_blank_tokens_before_the_verdict_are_passed_over() -> None:
    tokens = (Token("\n", logs(A=0.1, B=0.2)), Token(" A", {" A": math.log(0.75), " B": math.log(0.25)}))
    assert reading("logprobs").verdict(Reply("\n A", tokens)).win == pytest.approx(0.75)


def test_what_is_left_of_a_model_that_talks_is_no_verdict() -> None:
    talks = Reply("The first", (Token("The", logs(The=0.9, A=0.06, B=0.04)),))
    for kind in ("logprobs", "auto"):
        with pytest.raises(NoVerdict, match="The first"):
            reading(kind).verdict(talks)


@pytest.mark.parametrize("text", ["A", " A\n", "**A**", "A\n\nBecause it is", "A.", "[[A]] as"])
def test_what_follows_a_letter_on_its_own_does_not_matter_to_its_mass(text: str) -> None:
    reply = Reply(text, (Token("A", logs(A=0.75, B=0.25)),), finished=False)
    assert reading("logprobs").verdict(reply).win == pytest.approx(0.75)


@pytest.mark.parametrize("text", ["A good answer", "A  b", "Ab", "An answer", "B"])
def test_a_letter_that_begins_prose_or_thoughts_has_no_mass(text: str) -> None:
    reply = Reply(text, (Token("A" if text != "B" else "Okay", logs(A=0.75, B=0.25)),), finished=False)
    with pytest.raises(NoVerdict):
        reading("logprobs").verdict(reply)
    if text == "B":
        assert reading("auto").verdict(Reply("B", reply.tokens)).said


@pytest.mark.parametrize(("text", "win"), [("A", 1.0), (" b\n", 0.0), ("**A**", 1.0), ("B.", 0.0), ("[[A]]", 1.0)])
def test_one_word_is_a_verdict(text: str, win: float) -> None:
    assert reading("word").verdict(Reply(text)) == (win, 0.0, True)


def test_reasons_may_stand_before_a_marked_last_line() -> None:
    assert reading("word").verdict(Reply("B is vague, and A is not.\n[[A]]")).win == 1.0
    assert reading("word").verdict(Reply("<think>B? [[B]]</think>\nA")).win == 1.0


@pytest.mark.parametrize(
    "text",
    ["", "I cannot choose", "A or B", "A is better", "Answer: A", "[[A]] and [[B]]", "[[A]]\nor so", "C", "A B", "1"],
)
def test_prose_is_none(text: str) -> None:
    with pytest.raises(NoVerdict):
        reading("word").verdict(Reply(text))


def test_a_word_that_was_cut_may_have_been_another() -> None:
    with pytest.raises(NoVerdict, match="cut"):
        reading("word").verdict(Reply("A", finished=False))


def test_grades_are_evenly_spaced_and_the_middle_is_a_tie() -> None:
    five = reading("scale", 5)
    found = [five.verdict(Reply(str(grade))) for grade in range(1, 6)]
    assert [one.win for one in found] == [1.0, 0.75, 0.0, 0.25, 0.0]
    assert [one.tie for one in found] == [0.0, 0.0, 1.0, 0.0, 0.0]
    four = reading("scale", 4)
    assert [four.verdict(Reply(str(grade))).win for grade in range(1, 5)] == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])


def test_a_scale_is_averaged_where_there_are_probabilities() -> None:
    reply = Reply("2", (Token("2", {"1": math.log(0.2), "2": math.log(0.4), "3": math.log(0.2), "5": math.log(0.2)}),))
    verdict = reading("scale", 5).verdict(reply)
    assert verdict.win == pytest.approx(0.2 + 0.4 * 0.75) and verdict.tie == pytest.approx(0.2)


def test_seven_grades_are_told_to_the_model() -> None:
    assert (
        "from 1 to 7" in reading("scale", 7).form and "4 means that they are equally good" in reading("scale", 7).form
    )
    assert "equally" not in reading("scale", 6).form and ", C if" in reading("word", ties=True).form


def test_settings_are_checked() -> None:
    for wrong in (lambda: reading("guess"), lambda: reading("scale", 1), lambda: reading("word", ties="yes")):
        with pytest.raises(UserError):
            wrong()


def test_a_refusal_of_the_service_is_no_verdict() -> None:
    body = completion("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I'm sorry"}
    with pytest.raises(NoVerdict, match="sorry"):
        reading("auto").verdict(read_reply(body, MODEL))
    filtered = completion("A")
    filtered["choices"][0]["finish_reason"] = "content_filter"
    with pytest.raises(NoVerdict, match="content_filter"):
        reading("auto").verdict(read_reply(filtered, MODEL))


def test_a_good_completion_is_read() -> None:
    reply = read_reply(completion("A", {"A": 0.8, "B": 0.2, "x": 0.0}), MODEL)
    assert reply.text == "A" and reply.finished and reading("logprobs").verdict(reply).win == pytest.approx(0.8)


def test_an_alias_is_the_same_model_and_another_is_not() -> None:
    read_reply(completion("A", model="gpt-x-2026-01-01"), "org/gpt-x")
    with pytest.raises(Unreadable, match="other"):
        read_reply(completion("A", model="other"), MODEL)
    read_reply(completion("A", model="other"), None)


def broken(**changes: Any) -> dict[str, Any]:
    body = completion("A", {"A": 0.8, "B": 0.2})
    body["choices"][0].update(changes)
    return body


@pytest.mark.parametrize(
    "body",
    [
        [],
        "A",
        {},
        completion("A", choices=[]),
        completion("A", choices=None),
        {**completion("A"), "choices": completion("A")["choices"] * 2},
        completion("A", model=None),
        broken(index=1),
        broken(finish_reason="abort"),
        broken(message=None),
        broken(message={"role": "user", "content": "A"}),
        broken(message={"role": "assistant", "content": 7}),
        broken(logprobs={"content": [{"token": "A"}]}),
        broken(logprobs={"content": [{"token": "A", "logprob": 3.0}]}),
        broken(logprobs={"content": [{"token": "A", "logprob": float("nan")}]}),
        broken(
            logprobs={"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "B", "logprob": -0.1}]}]}
        ),
        broken(logprobs={"content": ["A"]}),
    ],
)
def test_other_shapes_are_unreadable(body: Any) -> None:
    with pytest.raises(Unreadable):
        read_reply(body, MODEL)
