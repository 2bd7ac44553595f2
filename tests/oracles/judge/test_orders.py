"""Orders: which is shown, what two verdicts say together, and what the order did."""

from __future__ import annotations

import numpy as np
import pytest

from duelenv.oracles.judge.orders import Shown, drawn, order_of, position, together, turned
from duelenv.oracles.judge.verdicts import Verdict

DUEL = Shown("p", "a", "b")
WON, LOST = Verdict(1.0, 0.0, True), Verdict(0.0, 0.0, True)


def test_a_random_order_depends_on_the_texts_alone() -> None:
    duels = [Shown("p", f"a{number}", f"b{number}") for number in range(400)]
    for duel in duels:
        assert order_of("random", duel) == order_of("random", duel.turned)
        assert order_of("fixed", duel) == duel
    share = np.mean([order_of("random", duel) == duel for duel in duels])
    assert abs(share - 0.5) < 0.1  # four standard errors
    assert len({drawn(duel) for duel in duels}) == 400 and drawn(DUEL) == drawn(DUEL.turned)


def test_turning_twice_is_nothing() -> None:
    verdict = Verdict(0.2, 0.3, False)
    assert turned(verdict).win == pytest.approx(0.5)
    assert turned(turned(verdict)) == pytest.approx(verdict)


def test_probabilities_are_averaged_even_where_they_turn() -> None:
    one, other = Verdict(0.9, 0.0, False), Verdict(0.3, 0.0, False)
    assert together(one, other) == (pytest.approx(0.6), 0.0, False)
    assert together(Verdict(0.4, 0.2, False), Verdict(0.2, 0.6, False)) == (
        pytest.approx(0.3),
        pytest.approx(0.4),
        False,
    )


def test_two_words_that_contradict_each_other_are_a_declared_tie() -> None:
    assert together(WON, LOST) == (0.0, 1.0, True)
    assert together(LOST, WON) == (0.0, 1.0, True)
    assert together(WON, WON) == (1.0, 0.0, True) and together(LOST, LOST) == (0.0, 0.0, True)


def test_a_word_and_a_tie_are_half_each() -> None:
    assert together(WON, Verdict(0.0, 1.0, True)) == (0.5, 0.5, True)


def test_grades_that_lean_apart_are_averaged() -> None:
    assert together(WON, Verdict(0.25, 0.0, True)).win == pytest.approx(0.625)


def test_what_the_order_did() -> None:
    # Preferred with 0.9 when shown first and 0.7 when shown second: no turn, 0.1 more for being first than on average.
    assert position(Verdict(0.9, 0.0, False), Verdict(0.7, 0.0, False)) == (0.0, pytest.approx(0.1))
    assert position(WON, LOST) == (1.0, 0.5)
    assert position(LOST, WON) == (1.0, -0.5)
    assert position(WON, Verdict(0.0, 1.0, True)) == (0.0, 0.25)  # a tie prefers nobody
