"""One annotator: each habit by hand, in B-Pref's meaning, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from duelenv.oracles import UserError, UtilityOracle
from duelenv.oracles.crowds.annotator import Annotator


class Worth(UtilityOracle):
    """A response is worth the sum of the numbers in it."""

    def utility(self, prompts, responses):
        return np.array([sum(float(word) for word in response.split()) for response in responses])


UTILITIES = {"worth": Worth(), "against": Worth()}


def said(first: str, second: str, **settings: object) -> tuple[float, float]:
    annotator = Annotator(**{"weights": {"worth": 1.0}, **settings})
    answer = annotator.answer(UTILITIES, ["p"], [first], [second])
    return float(answer.win[0]), float(answer.tie[0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_beta_multiplies_the_difference() -> None:
    assert_allclose(said("3", "1", beta=0.5), (sigmoid(1.0), 0.0))
    assert said("3", "1", beta=0.0) == (0.5, 0.0)


def test_the_perfectly_rational_takes_the_better_and_tosses_between_equals() -> None:
    assert said("3", "1", beta=math.inf) == (1.0, 0.0)
    assert said("1", "3", beta=math.inf) == (0.0, 0.0)
    assert said("2", "2", beta=math.inf) == (0.5, 0.0)
    with pytest.raises(UserError, match=r"beta is -1.*inf"):
        Annotator(beta=-1)


def test_weights_mix_utilities() -> None:
    assert_allclose(said("3", "1", weights={"worth": 1.0, "against": -0.25})[0], sigmoid(2.0 * 0.75))


def test_gamma_discounts_words_by_their_distance_from_the_end() -> None:
    # 0.5^2 * 8 + 0.5 * 0 + 1 = 3 against 0.5 * 2 + 0 = 1, and 9 against 2 in all.
    assert_allclose(said("8 0 1", "2 0", gamma=0.5)[0], sigmoid(2.0))
    assert_allclose(said("8 0 1", "2 0", gamma=1.0)[0], sigmoid(7.0))
    assert_allclose(said("8 0 1", "2 0", gamma=0.0)[0], sigmoid(1.0))  # the last words alone: 1 against 0
    assert_allclose(said("", "2 0", gamma=0.5)[0], sigmoid(-1.0))


def test_gamma_close_to_one_is_the_whole_utility() -> None:
    assert_allclose(said("4 0 1", "2 0", gamma=1.0 - 1e-9)[0], sigmoid(3.0), atol=1e-7)


def test_a_mistake_swaps_and_an_equal_pair_is_never_mistaken() -> None:
    assert_allclose(said("3", "1", beta=math.inf, mistake=0.1), (0.9, 0.0))
    assert said("3", "1", beta=math.inf, mistake=0.1, equal=2.5) == (0.0, 1.0)
    assert_allclose(said("3", "1", equal=2.0)[1], 0.0)  # strictly within


def test_skip_looks_at_the_better_one() -> None:
    assert math.isnan(said("3", "1", skip=3.5)[0])
    assert not math.isnan(said("3", "1", skip=3.0)[0])
    assert not math.isnan(said("1", "3", skip=2.0)[0])
    assert said("3", "1", skip=3.5, equal=9.0)[1] == 0.0  # declines before it calls a tie


def test_a_lapse_is_a_coin_whatever_is_shown() -> None:
    assert_allclose(said("3", "1", beta=math.inf, lapse=0.2), (0.9, 0.0))
    assert_allclose(said("3", "1", equal=9.0, lapse=0.2), (0.1, 0.8))
    assert said("3", "1", position_bias=5.0, lapse=1.0) == (0.5, 0.0)


def test_position_bias_is_added_in_logits() -> None:
    assert_allclose(said("3", "1", position_bias=-0.5)[0], sigmoid(1.5))
    assert_allclose(said("3", "1", position_bias=-0.5)[0] + said("1", "3", position_bias=0.5)[0], 1.0)


def test_ability_is_how_often_they_say_what_they_mean() -> None:
    annotator = Annotator(lapse=0.2, mistake=0.1)
    assert_allclose(annotator.ability, 0.8 * 0.9 + 0.1)
    assert_allclose(said("3", "1", beta=math.inf, lapse=0.2, mistake=0.1)[0], annotator.ability)


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", 1.1), ("mistake", -0.1), ("lapse", 2), ("price", -1), ("equal", -1)]
)
def test_what_is_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        Annotator(**{name: value})
