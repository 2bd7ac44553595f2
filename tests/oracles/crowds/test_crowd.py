"""Crowds: who answers is fixed by the texts, votes are counted exactly, and the truth is the mean of what they want."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError, ask, make, utility_of
from duelenv.oracles.crowds.crowd import Crowd, crowd
from duelenv.oracles.crowds.population import population
from duelenv.oracles.crowds.votes import counted, log_odds_of
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Limits, OutOfMoney, Purse
from duelenv.testing import check_oracle

UTILITIES = {"kind": {"name": "good_words", "scale": 4.0}, "short": {"name": "length", "target": 3}}
MIXED = [{"count": 6, "beta": [0.5, 2.0], "weights": {"kind": [0.5, 1.5], "short": [0.0, 0.2]}, "mistake": [0.0, 0.2]}]
TEXTS = ["kind words", "a rude reply", "clear and honest", "vague", "wise"]
PAIRS = [(a, b) for a in TEXTS for b in TEXTS if a != b]
FIRST, SECOND = [a for a, _ in PAIRS], [b for _, b in PAIRS]
PROMPTS = ["p"] * len(PAIRS)


@pytest.mark.parametrize("more", [{}, {"votes": 3}, {"votes": 3, "aggregation": "ability"}, {"answer": "population"}])
def test_a_crowd_is_an_oracle(more: dict[str, object]) -> None:
    check_oracle(lambda: make("crowd", utilities=UTILITIES, annotators=MIXED, **more))


def test_one_annotator_without_habits_is_the_base_oracle() -> None:
    base = make("good_words", scale=4.0)
    alone = crowd({"kind": UTILITIES["kind"]}, 1)
    assert_allclose(ask(alone, PROMPTS, FIRST, SECOND).win, ask(base, PROMPTS, FIRST, SECOND).win)
    assert_allclose(alone.inner.maximum(["p"]), [4.0])


def test_who_answers_is_drawn_evenly_by_the_texts_in_either_order() -> None:
    oracle = crowd(UTILITIES, 4, votes=2)
    assert oracle.drawn("p", "a", "b") == oracle.drawn("p", "b", "a")
    drawn = np.array([oracle.drawn("p", "a", str(number)) for number in range(4000)])
    assert (drawn[:, 0] != drawn[:, 1]).all()
    counts = np.bincount(drawn.ravel(), minlength=4)
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(8000 / 4 * 3 / 4)
    assert crowd(UTILITIES, 4, seed=1, votes=2).drawn("p", "a", "0") != oracle.drawn("p", "a", "0") or (
        crowd(UTILITIES, 4, seed=1, votes=2).drawn("p", "a", "1") != oracle.drawn("p", "a", "1")
    )


def test_the_drawn_annotator_answers_for_themselves() -> None:
    oracle = crowd(UTILITIES, MIXED)
    answer = ask(oracle, PROMPTS, FIRST, SECOND).win
    for place, (a, b) in enumerate(PAIRS):
        (who,) = oracle.drawn("p", a, b)
        own = oracle.annotators[who].answer(oracle.utilities, ["p"], [a], [b])
        assert_allclose(answer[place], own.win[0])


def test_the_population_is_the_mean_of_those_who_do_not_decline() -> None:
    people = [{"beta": 1.0}, {"beta": 2.0, "skip": 1.0}]
    oracle = crowd({"kind": UTILITIES["kind"]}, people, answer="population")
    win = ask(oracle, ["p"] * 2, ["rude", "kind"], ["vague vague", "rude"]).win
    assert_allclose(win, [0.5, (1 / (1 + np.exp(-8)) + 1 / (1 + np.exp(-16))) / 2])
    assert np.isnan(ask(crowd({"kind": UTILITIES["kind"]}, people[1:], answer="population"), ["p"], ["x"], ["y"]).win)


def test_the_truth_is_the_mean_utility() -> None:
    people = [{"weights": {"kind": 1.0}}, {"weights": {"kind": 0.5, "short": 1.0}}]
    truth = utility_of(make("crowd", utilities=UTILITIES, annotators=people, noise=0.1))
    assert truth is not None
    kind, short = make("good_words", scale=4.0), make("length", target=3)
    expected = 0.75 * kind.utility(PROMPTS, FIRST) + 0.5 * short.utility(PROMPTS, FIRST)
    assert_allclose(truth.utility(PROMPTS, FIRST), expected)
    assert truth.maximum(["p"]) is None
    assert_allclose(crowd(UTILITIES, people[:1]).inner.maximum(["p"]), [4.0])
    assert crowd(UTILITIES, [{"weights": {"kind": -1.0}}]).inner.maximum(["p"]) is None


# Who they are --------------------------------------------------------------------------------------------------------


def test_ranges_are_drawn_evenly_and_apart() -> None:
    people = population([{"count": 400, "beta": [1.0, 3.0], "lapse": [0.0, 1.0]}], 0, ["u"])
    beta, lapse = (np.array([getattr(one, name) for one in people]) for name in ("beta", "lapse"))
    assert 1.0 <= beta.min() < 1.05 and 2.95 < beta.max() <= 3.0
    assert abs(np.corrcoef(beta, lapse)[0, 1]) < 0.2
    fewer = population([{"count": 3, "beta": [1.0, 3.0]}], 0, ["u"])
    assert [one.beta for one in fewer] == beta[:3].tolist()
    assert population([{"count": 3, "beta": [1.0, 3.0]}], 1, ["u"]) != fewer


@pytest.mark.parametrize(
    ("annotators", "match"),
    [
        ([], "annotators is"),
        (0, "count"),
        ([{"betta": 1}], "did you mean 'beta'"),
        ([{"weights": {"kin": 1}}], "did you mean 'kind'"),
        ([{"beta": [2, 1]}], "beta"),
        ([{"name": "ann"}, {"name": "ann"}], "two annotators are called 'ann'"),
    ],
)
def test_wrong_annotators_are_refused(annotators: object, match: str) -> None:
    with pytest.raises(UserError, match=match):
        crowd(UTILITIES, annotators)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"votes is 4.*1 to 3"):
        crowd(UTILITIES, 3, votes=4)
    with pytest.raises(UserError, match="draws nobody"):
        crowd(UTILITIES, 3, votes=2, answer="population")
    with pytest.raises(UserError, match="no utility of its own"):
        crowd({"kind": {"name": "good_words", "noise": 0.1}}, 3)


# Votes ---------------------------------------------------------------------------------------------------------------


def test_votes_are_counted_as_by_drawing_them() -> None:
    rng = np.random.default_rng(0)
    win, tie = np.array([[0.7, 0.2, 0.5]]), np.array([[0.1, 0.3, 0.0]])
    weights = np.array([[1.0, 2.0, 0.5]])
    exact = counted(win, tie, weights)
    draws = rng.random((200_000, 3))
    votes = np.where(draws < win, 1, np.where(draws < win + tie, 0, -1))
    score = votes @ weights[0]
    assert_allclose([exact.win[0], exact.tie[0]], [(score > 0).mean(), (score == 0).mean()], atol=0.005)


def test_majority_of_three_by_hand() -> None:
    p = np.array([[0.8, 0.6, 0.3]])
    outcomes = {
        v: np.prod([q if x else 1 - q for q, x in zip(p[0], v, strict=True)]) for v in product((0, 1), repeat=3)
    }
    by_hand = sum(chance for votes, chance in outcomes.items() if sum(votes) >= 2)
    answer = counted(p, np.zeros((1, 3)), np.ones((1, 3)))
    assert_allclose(answer.win, [by_hand])
    assert_allclose(answer.tie, [0.0], atol=1e-12)


def test_who_declines_does_not_count() -> None:
    answer = counted(np.array([[0.8, np.nan], [np.nan, np.nan]]), np.zeros((2, 2)), np.ones((2, 2)))
    assert_array_equal(answer.win, [0.8, np.nan])
    assert_array_equal(answer.tie, [0.0, 0.0])


def test_ability_weights_let_one_expert_overrule_two_guessers() -> None:
    weights = log_odds_of(np.array([[0.95, 0.6, 0.6]]))
    answer = counted(np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 3)), weights)
    assert answer.win[0] == 1.0 and log_odds_of(np.array([0.5]))[0] == 0.0
    # Known liars are read backwards.
    assert counted(np.array([[1.0]]), np.zeros((1, 1)), log_odds_of(np.array([[0.1]]))).win[0] == 0.0


# Prices --------------------------------------------------------------------------------------------------------------


def test_each_annotator_is_paid_their_own_price_before_they_are_asked() -> None:
    people = [{"price": 0.1}, {"price": 0.3}, {"price": 0.5}]
    purse = Purse(Limits(money=0.95))
    oracle = crowd(UTILITIES, people, votes=2, home=Home(purse=purse))
    prices = [sum((0.1, 0.3, 0.5)[who] for who in oracle.drawn("p", a, "kind")) for a in ("a", "b")]
    oracle(["p"], ["a"], ["kind"])
    assert_allclose(purse.spent.money, prices[0])
    with pytest.raises(OutOfMoney):
        oracle(["p"] * 9, ["b"] * 9, ["kind"] * 9)
    assert_allclose(purse.spent.money, prices[0])
    assert_allclose(oracle.price, 0.8)
    assert isinstance(oracle, Crowd)
