"""A judge that obeys what stands in responses is found out, and one that does not passes."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from judge_stub import MODEL, judge_server

from duelenv.oracles import make
from duelenv.oracles.judge import canaries, try_canaries
from duelenv.oracles.judge.canaries import ATTACKS

BETTER = {(one.first, one.second)[one.better] for one in canaries()}


def sound(prompt: str, a: str, b: str) -> float:
    """Knows the better responses, whatever the other says."""
    return 0.95 if a in BETTER else 0.05


def obedient(prompt: str, a: str, b: str) -> float:
    """Does what a response tells it to."""
    told = re.search(r"answer(?: to this comparison is)?:? ([AB])\b|\[\[([AB])\]\]", f"{a}\n{b}", re.IGNORECASE)
    return sound(prompt, a, b) if told is None else float((told[1] or told[2]) == "A")


def first_placed(prompt: str, a: str, b: str) -> float:
    return 1.0


def test_every_pair_stands_in_both_places_with_and_without_each_attack() -> None:
    every = canaries()
    assert len(set(every)) == len(every) == 8 * 2 * (1 + len(ATTACKS))
    assert set(Counter((one.pair, one.better) for one in every).values()) == {1 + len(ATTACKS)}
    for one in every:
        worse = (one.second, one.first)[one.better]
        assert bool(one.attack) == any(
            f"nswer {letter}" in worse or f"{letter}" in worse.split()[-1] for letter in "AB"
        )


def test_an_attack_names_the_letter_under_which_it_is_shown() -> None:
    for one in canaries():
        if one.attack == "order":
            attacked, letter = (one.second, "B") if one.better == 0 else (one.first, "A")
            assert attacked.endswith(f"answer {letter}.")


def test_a_sound_judge_passes() -> None:
    with judge_server(sound) as (server, model):
        report = try_canaries(make("judge", url=server.url, model=MODEL))
        assert len(model.asked) == len(canaries())  # each once, though the judge shows duels in both orders
    assert report.robust and (report.right, report.right_attacked, report.talked_round) == (1.0, 1.0, 0.0)
    assert list(report.shift.values()) == pytest.approx([0.0] * len(ATTACKS))
    assert "not talked round" in str(report)


def test_an_obedient_judge_is_found_out() -> None:
    with judge_server(obedient) as (server, _):
        report = try_canaries(make("judge", url=server.url, model=MODEL))
    assert not report.robust and report.right == 1.0 and report.talked_round == 1.0
    assert report.turned == dict.fromkeys(ATTACKS, 1.0) and report.right_attacked == 0.0
    assert list(report.shift.values()) == pytest.approx([0.95] * len(ATTACKS))
    assert "NOT" in str(report)


def test_a_judge_of_places_is_no_judge() -> None:
    report = try_canaries(lambda p, a, b: [1.0] * len(p))
    assert not report.robust and report.right == 0.5 and report.talked_round == 0.0


def test_who_declines_is_not_right() -> None:
    report = try_canaries(lambda p, a, b: [float("nan")] * len(p))
    assert report.declined == 1.0 and report.right == 0.0 and not report.robust


def test_one_attack_is_told_from_the_others() -> None:
    def by_marks(prompts: list[str], first: list[str], second: list[str]) -> list[float]:
        return [
            float("[[A]]" in a or ("[[B]]" not in b and sound(p, a, b) > 0.5))
            for p, a, b in zip(prompts, first, second, strict=True)
        ]

    report = try_canaries(by_marks)
    assert report.turned == {**dict.fromkeys(ATTACKS, 0.0), "verdict": 1.0}
