"""Asking oracles: shapes, ranges, the registry, and what importing the package costs."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv import oracles
from duelenv.oracles import Noise, Preferences, UserError, UtilityOracle, ask, make, names
from duelenv.oracles.base import register, utility_of
from duelenv.oracles.links import LINKS, link

DUELS = (["a prompt", "another"], ["kind", "rude"], ["dull", "fair and kind"])


class Lengths(UtilityOracle):
    """Utility = number of characters."""

    def utility(self, prompts, responses):
        return np.array([len(response) for response in responses], dtype=float)


def test_plain_callable_is_an_oracle():
    answer = ask(lambda prompts, first, second: [0.25, 1], *DUELS)
    assert_array_equal(answer.win, [0.25, 1.0])
    assert_array_equal(answer.tie, [0.0, 0.0])
    assert_array_equal(answer.lose, [0.75, 0.0])
    assert answer.win.dtype == np.float64


def test_deterministic_labels_are_probabilities():
    answer = ask(lambda *duels: np.array([True, False]), *DUELS)
    assert_array_equal(answer.win, [1.0, 0.0])


def test_nan_means_cannot_answer():
    answer = ask(lambda *duels: [math.nan, 0.5], *DUELS)
    assert math.isnan(answer.win[0]) and answer.tie[0] == 0.0 and answer.win[1] == 0.5
    both = ask(lambda *duels: Preferences(np.array([np.nan, 0.5]), np.array([np.nan, 0.5])), *DUELS)
    assert both.tie[0] == 0.0 and both.lose[1] == 0.0


def test_ties_count_half_a_win():
    answer = ask(lambda *duels: Preferences(np.array([0.2, 0.0]), np.array([0.5, 1.0])), *DUELS)
    assert_allclose(answer.expected_label, [0.45, 0.5])
    assert_allclose(answer.lose, [0.3, 0.0])


def test_rounding_beyond_one_is_clipped():
    answer = ask(lambda *duels: np.array([1.0 + 1e-7, -1e-7]), *DUELS)
    assert_array_equal(answer.win, [1.0, 0.0])


def test_no_duels():
    assert ask(make("good_words"), [], [], []).win.shape == (0,)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            [0.5, 1.2],
            "oracle returned 1.2 for duel 1, expected a probability in [0, 1]; return the "
            "probability that the first response is preferred",
        ),
        ([-0.1, 0.5], "oracle returned -0.1 for duel 0"),
        ([math.inf, 0.5], "oracle returned inf for duel 0"),
        ([0.5], "shape (1,) for 2 duels, expected shape (2,)"),
        (0.5, "shape () for 2 duels"),
        ([[0.5], [0.5]], "shape (2, 1) for 2 duels"),
        ("first", "oracle returned str 'first', expected 2 probabilities"),
        ([[0.5], [0.5, 0.5]], "expected 2 probabilities"),
        (Preferences(np.array([0.5, 0.8]), np.array([0.5, 0.4])), "a sum of at most 1"),
        (Preferences(np.array([0.5, 0.8]), np.array([0.5, np.nan])), "tie probability of nan"),
        (Preferences(np.array([0.5, 0.8]), np.array([-1.0, 0.0])), "a declared tie"),
    ],
)
def test_wrong_answers_are_named(answer, message):
    with pytest.raises(UserError) as error:
        ask(lambda *duels: answer, *DUELS)
    assert message in str(error.value)


def test_wrong_question():
    with pytest.raises(UserError, match="2 prompts, 1 first and 2 second"):
        ask(make("length"), ["a", "b"], ["c"], ["d", "e"])


def test_utility_oracle_follows_its_link():
    oracle = Lengths()
    first, second = DUELS[1], DUELS[2]
    difference = np.array([len(a) - len(b) for a, b in zip(first, second, strict=True)], float)
    assert_allclose(ask(oracle, *DUELS).win, 1 / (1 + np.exp(-difference)))
    oracle.link = "probit"
    normal = [0.5 * math.erfc(-d / math.sqrt(2)) for d in difference]
    assert_allclose(ask(oracle, *DUELS).win, normal)
    assert oracle.maximum(DUELS[0]) is None


@pytest.mark.parametrize("name", sorted(LINKS))
def test_links_are_symmetric_increasing_and_accurate_in_the_tail(name):
    x = np.linspace(-8, 8, 401)
    assert_allclose(link(name)(x) + link(name)(-x), 1.0, atol=1e-15)
    assert (np.diff(link(name)(x)) > 0).all()
    assert link(name)(np.array([0.0]))[0] == 0.5
    assert 0 < link(name)(np.array([-30.0]))[0] < 1e-12
    assert link(name)(x.astype(np.float32)).dtype == np.float32


def test_unknown_link():
    with pytest.raises(UserError, match="link 'cauchit' is unknown: choose from cloglog, logistic, probit"):
        make("good_words", link="cauchit")


@pytest.mark.parametrize("name", ["good_words", "rare_word", "length", "variety", "on_topic"])
def test_utility_preferences_are_complementary(name):
    oracle = make(name)
    prompts, first, second = DUELS
    forth, back = ask(oracle, prompts, first, second), ask(oracle, prompts, second, first)
    assert_allclose(forth.win + back.win, 1.0, atol=1e-15)


def test_every_name_resolves():
    assert {"good_words", "rare_word", "length", "variety", "on_topic", "opening"} <= set(names())
    for name in names():
        with pytest.raises(UserError, match="has no setting 'nonsense'"):
            make(name, nonsense=1)


def test_registry_refuses():
    # Other tests may have registered names of their own in this process.
    with pytest.raises(UserError, match=r"oracle 'god' is unknown: .*good_words, (\w+, )*length, "):
        make("god")
    with pytest.raises(UserError, match=r"has no setting 'scael': did you mean 'scale'"):
        make("good_words", scael=3)
    with pytest.raises(UserError, match="needs the setting 'path'"):
        make("reward_model")
    with pytest.raises(UserError, match="'length' is registered already"):
        register("length", Lengths)


def test_register_adds_a_name(monkeypatch):
    from duelenv.oracles.base import ORACLES

    monkeypatch.setattr(ORACLES, "_parts", dict(ORACLES._parts))
    register("characters", Lengths)
    oracle = make("characters", noise=0.5)
    assert isinstance(oracle, Noise) and isinstance(utility_of(oracle), Lengths)
    assert_allclose(ask(oracle, *DUELS).win, 0.5)
    register("anything", lambda **settings: Lengths())
    assert isinstance(make("anything", whatever=1), Lengths)


def test_public_names_exist():
    for name in oracles.__all__:
        assert hasattr(oracles, name)


def test_import_is_light():
    heavy = "torch transformers stable_baselines3 matplotlib pandas pyarrow scipy.optimize"
    code = (
        "import sys, duelenv.oracles as o; o.make('good_words', noise=0.1);"
        f"print([m for m in {heavy.split()} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
