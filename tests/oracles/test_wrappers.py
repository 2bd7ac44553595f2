"""Wrappers against closed forms, and what they leave untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import (
    Noise,
    PositionBias,
    Preferences,
    Temperature,
    TieBand,
    UserError,
    ask,
    make,
    utility_of,
)
from duelenv.oracles.text import GoodWords

WORDS = ["kind", "rude", "kind rude", "the kind house", "a rude old man", "", "kind and fair"]
FIRST = [a for a in WORDS for _ in WORDS]
SECOND = [b for _ in WORDS for b in WORDS]
PROMPTS = ["tell me about the house"] * len(FIRST)


def answers(win, tie=0.0):
    """An oracle with fixed answers, whatever is asked."""
    return lambda prompts, first, second: Preferences(
        np.full(len(prompts), float(win)), np.full(len(prompts), float(tie))
    )


def one(oracle):
    """(win, tie, lose) of a single duel."""
    answer = ask(oracle, ["p"], ["a"], ["b"])
    return float(answer.win[0]), float(answer.tie[0]), float(answer.lose[0])


def logit(p):
    return np.log(p) - np.log1p(-p)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_noise_mixes_win_and_loss_and_leaves_ties():
    assert_allclose(one(Noise(answers(0.8), 0.1)), (0.8 * 0.9 + 0.2 * 0.1, 0, 0.26))
    assert_allclose(one(Noise(answers(0.5, 0.3), 0.25)), (0.425, 0.3, 0.275))
    assert_allclose(one(Noise(answers(0.9), 1.0)), (0.1, 0.0, 0.9))


def test_temperature_divides_log_odds():
    assert_allclose(one(Temperature(answers(0.8), 2.0))[0], sigmoid(logit(0.8) / 2))
    assert one(Temperature(answers(1.0), 5.0)) == (1.0, 0.0, 0.0)
    assert one(Temperature(answers(0.0), 5.0)) == (0.0, 0.0, 1.0)
    win, tie, lose = one(Temperature(answers(0.4, 0.5), 0.5))
    assert tie == 0.5
    assert_allclose(win / lose, (0.4 / 0.1) ** 2)


def test_temperature_over_a_utility_divides_the_utility():
    plain, soft = GoodWords(scale=10.0), Temperature(GoodWords(scale=40.0), 4.0)
    assert_allclose(ask(soft, PROMPTS, FIRST, SECOND).win, plain(PROMPTS, FIRST, SECOND))
    # 1 - 1e-35 rounds to 1; the utilities still know the difference.
    assert_allclose(one_pair(Temperature(GoodWords(scale=40.0), 80.0)), sigmoid(1.0))
    probit = Temperature(GoodWords(scale=2.0, link="probit"), 4.0)
    assert_allclose(one_pair(probit), 0.8413447460685429)


def one_pair(oracle):
    """P(an entirely good response beats an entirely bad one)."""
    return ask(oracle, ["p"], ["kind"], ["rude"]).win[0]


def test_tie_band_declares_close_answers():
    assert one(TieBand(answers(0.54), 0.05)) == (0.0, 1.0, 0.0)
    assert one(TieBand(answers(0.46), 0.05)) == (0.0, 1.0, 0.0)
    assert_allclose(one(TieBand(answers(0.56), 0.05)), (0.56, 0.0, 0.44))
    assert_allclose(one(TieBand(answers(0.5), 0.0)), (0.5, 0.0, 0.5))
    # Half of the tie counts as a win: 0.3 + 0.4 / 2 = 1/2.
    assert one(TieBand(answers(0.3, 0.4), 0.01)) == (0.0, 1.0, 0.0)


def test_position_bias_shifts_the_log_odds():
    assert_allclose(one(PositionBias(answers(0.5), 0.7))[0], sigmoid(0.7))
    assert_allclose(one(PositionBias(answers(0.2), -0.4))[0], sigmoid(logit(0.2) - 0.4))
    assert one(PositionBias(answers(0.0), 3.0))[0] == 0.0
    assert one(PositionBias(answers(0.0, 1.0), 3.0)) == (0.0, 1.0, 0.0)


def test_position_bias_breaks_the_symmetry_as_computed():
    bias, truth = 0.5, GoodWords(scale=3.0)
    oracle = PositionBias(truth, bias)
    difference = truth.utility(PROMPTS, FIRST) - truth.utility(PROMPTS, SECOND)
    forth, back = ask(oracle, PROMPTS, FIRST, SECOND).win, ask(oracle, PROMPTS, SECOND, FIRST).win
    assert_allclose(forth, sigmoid(difference + bias))
    assert_allclose(forth + back - 1, sigmoid(difference + bias) - sigmoid(difference - bias))
    assert (forth + back > 1).all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda oracle: Noise(oracle, 0.2),
        lambda oracle: Temperature(oracle, 3.0),
        lambda oracle: Temperature(Noise(oracle, 0.1), 0.5),
        lambda oracle: TieBand(oracle, 0.2),
        lambda oracle: Noise(TieBand(Temperature(oracle, 2.0), 0.1), 0.05),
    ],
)
def test_unbiased_wrappers_stay_symmetric(wrap):
    oracle = wrap(GoodWords(scale=3.0))
    forth, back = ask(oracle, PROMPTS, FIRST, SECOND), ask(oracle, PROMPTS, SECOND, FIRST)
    assert_allclose(forth.win, back.lose, atol=1e-15)
    assert_array_equal(forth.tie, back.tie)


@given(
    win=st.floats(0, 1),
    share=st.floats(0, 1),
    temperature=st.floats(0.1, 10),
    bias=st.floats(-5, 5),
    width=st.floats(0, 0.5),
    flip=st.floats(0, 1),
)
def test_any_composition_is_a_distribution(win, share, temperature, bias, width, flip):
    inner = answers(win, (1 - win) * share)
    oracle = Noise(TieBand(PositionBias(Temperature(inner, temperature), bias), width), flip)
    result = np.array(one(oracle))
    assert (result >= 0).all()
    assert_allclose(result.sum(), 1.0)


def test_neutral_settings_change_nothing():
    inner = GoodWords(scale=3.0)
    plain = inner(PROMPTS, FIRST, SECOND)
    for oracle in (
        Noise(inner, 0.0),
        Temperature(inner, 1.0),
        TieBand(inner, 0.0),
        PositionBias(inner, 0.0),
    ):
        assert_allclose(ask(oracle, PROMPTS, FIRST, SECOND).win, plain, atol=1e-15)


def test_unanswered_duels_stay_unanswered():
    for wrap in (Noise, Temperature, TieBand, PositionBias):
        answer = ask(wrap(lambda *duels: [np.nan], 0.3), ["p"], ["a"], ["b"])
        assert np.isnan(answer.win[0]) and answer.tie[0] == 0.0


def test_truth_stays_reachable_and_unchanged():
    truth = GoodWords()
    oracle = Noise(TieBand(PositionBias(Temperature(truth, 2.0), 0.3), 0.1), 0.2)
    assert utility_of(oracle) is truth
    assert utility_of(truth) is truth
    assert utility_of(Noise(lambda *duels: [0.5], 0.1)) is None
    assert utility_of(lambda *duels: [0.5]) is None


def test_make_wraps_in_the_documented_order():
    # Whatever order the settings are written in: temperature, position bias, tie band, noise.
    oracle = make("good_words", noise=0.1, tie_band=0.05, position_bias=0.2, temperature=2.0)
    expected = Noise(TieBand(PositionBias(Temperature(GoodWords(), 2.0), 0.2), 0.05), 0.1)
    assert oracle == expected
    plain = make("good_words", scale=3)
    assert plain == GoodWords(scale=3.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.5}, "noise is 1.5, expected a number in [0, 1]; change noise"),
        ({"noise": "1e-1"}, "noise is '1e-1', expected a number"),
        ({"noise": True}, "noise is True"),
        ({"temperature": 0}, "temperature is 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"tie_band": 0.6}, "tie_band is 0.6, expected a number in [0, 0.5]"),
        ({"position_bias": float("inf")}, "position_bias is inf, expected a finite number"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(UserError) as error:
        make("good_words", **settings)
    assert message in str(error.value)
