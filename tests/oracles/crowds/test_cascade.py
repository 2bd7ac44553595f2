"""Cascades: whom the rule asks, what a line corrects, what is kept when the dear one fails, and whether it pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit

from duelenv.oracles import Preferences, Unanswered, UserError, ask, make, utility_of
from duelenv.oracles.crowds.cascade import Cascade, Line, cascade, fit_line
from duelenv.oracles.pricing import Priced, price_of
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, Limits, OutOfMoney, Purse
from duelenv.testing import check_oracle


class Says:
    """Answers the probability that stands in the first response, changed, and remembers what it was asked."""

    def __init__(self, change=lambda p: p) -> None:
        self.change, self.asked = change, []

    def __call__(self, prompts, first, second, /):
        self.asked += list(first)
        return self.change(np.array([float(text) for text in first]))


def answers(oracle, values):
    texts = [str(value) for value in values]
    return ask(oracle, ["p"] * len(texts), texts, ["x"] * len(texts)).win


def test_the_dear_one_answers_what_the_cheap_one_is_not_sure_of() -> None:
    cheap, dear = Says(), Says(lambda p: 1 - p)
    assert_allclose(answers(Cascade(cheap, dear, 0.2), [0.1, 0.31, 0.45, 0.69, 0.9]), [0.1, 0.69, 0.55, 0.31, 0.9])
    assert dear.asked == ["0.31", "0.45", "0.69"]


def test_at_its_ends_the_band_is_one_oracle_alone() -> None:
    cheap, dear = Says(), Says(lambda p: 1 - p)
    values = [0.0, 0.4, 0.5, 1.0]
    assert_array_equal(answers(Cascade(cheap, dear, 0.0), values), values)
    assert not dear.asked
    cheap.asked = []
    assert_array_equal(answers(Cascade(cheap, dear, 0.5), values), [1.0, 0.6, 0.5, 0.0])
    assert not cheap.asked


def test_whoever_declines_is_not_sure() -> None:
    declining = Says(lambda p: np.where(p > 0.8, np.nan, p))
    assert_array_equal(answers(Cascade(declining, Says(lambda p: p / 2), 0.1), [0.9, 0.1]), [0.45, 0.1])


def test_without_calibration_it_is_an_oracle() -> None:
    check_oracle(lambda: make("cascade", cheap={"name": "length"}, dear={"name": "good_words"}, band=0.3))


# The line ------------------------------------------------------------------------------------------------------------


def test_a_line_takes_back_a_bias_and_calms() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 4000)
    cheap = Preferences(expit(2.0 * truth + 1.0), np.zeros(4000))
    line = fit_line(cheap, (rng.random(4000) < expit(truth)).astype(float))
    assert_allclose(line, (0.5, -0.5), atol=0.06)
    assert_allclose(line.corrected(cheap).win, expit(truth), atol=0.04)


def test_few_answers_change_little_and_none_nothing() -> None:
    nobody = fit_line(Preferences(np.zeros(0), np.zeros(0)), np.zeros(0))
    assert_allclose(nobody, (1.0, 0.0), atol=1e-4)
    one = fit_line(Preferences(np.array([0.5]), np.zeros(1)), np.array([1.0]))
    assert_allclose(one.intercept, expit(-one.intercept), atol=1e-4)  # gradient 0: prior b against sigma(-b)
    assert_allclose(fit_line(Preferences(np.array([np.nan]), np.zeros(1)), np.ones(1)), nobody, atol=1e-6)


def test_a_line_leaves_ties_and_judges_who_is_certain() -> None:
    said = Preferences(np.array([0.4, 1.0, 0.0]), np.array([0.5, 0.0, 1.0]))
    corrected = Line(0.5, 0.25).corrected(said)
    assert_allclose(corrected.tie, said.tie)
    assert_allclose(corrected.win, [0.5 * expit(0.5 * np.log(4) + 0.25), expit(5.25), 0.0])


def test_the_first_pairs_are_put_to_both_and_correct_what_follows() -> None:
    cheap, dear = Says(lambda p: expit(logit(p) + 2.0)), Says()
    oracle = Cascade(cheap, dear, 0.05, calibration=600)
    rng = np.random.default_rng(1)
    trial = rng.uniform(0.02, 0.98, 601).round(6)
    first = answers(oracle, trial[:30])
    assert_allclose(first, trial[:30])  # the dear one's word counts
    answers(oracle, trial[:30])  # nothing new is learnt from the same pairs
    unsure = np.abs(expit(logit(trial[:30]) + 2.0) - 0.5) < 0.05
    assert dear.asked[30:] == [str(value) for value in trial[:30][unsure]]
    assert oracle.line == Line()
    answers(oracle, trial[30:])
    assert len(set(dear.asked)) >= 600
    assert_allclose(oracle.line, (1.0, -2.0), atol=0.15)
    assert abs(answers(oracle, [0.8])[0] - 0.8) < 0.03


def test_a_restart_goes_on_with_the_same_line(tmp_path: Path) -> None:
    settings = {"cheap": {"name": "length", "position_bias": 1.0}, "dear": {"name": "length"}, "calibration": 3}
    home = Home(tmp_path, cell="passive-seed0")
    oracle = cascade(**settings, home=home)
    words = ["a", "a b", "a b c", "a b c d"]
    ask(oracle, ["p"] * 2, words[:2], words[1:3])
    (record,) = tmp_path.iterdir()
    assert record.name.startswith("cascade-passive-seed0-")
    with record.open("a") as stream:
        stream.write('["half a li')  # as of a process that died
    again = cascade(**settings, home=home)
    for one in (oracle, again):
        ask(one, ["p"], words[2:3], words[3:])
    assert again.line == oracle.line != Line()
    assert cascade(**settings, home=Home(tmp_path, cell="other")).line == Line()


# Failures and refusals -----------------------------------------------------------------------------------------------


def test_what_the_cheap_one_is_sure_of_is_kept_where_the_dear_one_cannot_be_paid() -> None:
    purse = Purse(Limits(money=1.0))
    oracle = Cascade(Says(), Priced(Says(), 0.7, purse), 0.2)
    with pytest.raises(Unanswered, match=r"budget\.money") as told:
        answers(oracle, [0.1, 0.5, 0.5, 0.9])
    assert told.value.answered.tolist() == [True, False, False, True]
    assert told.value.preferences.win[told.value.answered].tolist() == [0.1, 0.9]
    assert isinstance(told.value.__cause__, OutOfMoney)
    with pytest.raises(OutOfMoney):
        answers(oracle, [0.5, 0.5])


def test_a_part_of_the_dear_ones_answers_is_kept() -> None:
    def halting(prompts, first, second):
        raise Unanswered("down", Preferences(np.full(2, 0.3), np.zeros(2)), np.array([False, True]))

    with pytest.raises(Unanswered, match="down") as told:
        answers(Cascade(Says(), halting, 0.2), [0.5, 0.9, 0.5])
    assert told.value.answered.tolist() == [False, True, True]
    assert told.value.preferences.win[1:].tolist() == [0.9, 0.3]


def test_the_truth_and_the_price_are_those_of_both() -> None:
    settings = {"cheap": {"name": "length", "price": 0.01}, "dear": {"name": "good_words", "price": 0.5}}
    assert_allclose([price_of(cascade(**settings, band=band)) for band in (0.0, 0.2, 0.5)], [0.01, 0.51, 0.5])
    truth = utility_of(cascade(**settings))
    assert truth is not None and truth.utility(["p"], ["kind"])[0] == 10.0
    assert utility_of(Cascade(Says(), Says())) is None


def test_wrong_settings_are_refused() -> None:
    class Later:
        def ask(self, requests): ...
        def collect(self): ...

    with pytest.raises(UserError, match="dear of a cascade answers later"):
        Cascade(Says(), Later())
    with pytest.raises(UserError, match=r"band is 0\.6"):
        Cascade(Says(), Says(), 0.6)
    with pytest.raises(UserError, match="one oracle answers everything"):
        Cascade(Says(), Says(), 0.5, calibration=3)
    with pytest.raises(UserError, match="cheap has no 'name'"):
        cascade({"band": 1}, {"name": "length"})


class Tokens(Says):
    """Says what its answers may take, as a judge does."""

    def most(self, prompts, first, second) -> Cost:
        return Cost(100 * len(prompts), 0.25 * len(prompts))


def test_the_most_that_it_may_cost_is_that_of_both() -> None:
    texts = (["p"] * 3, ["a"] * 3, ["b"] * 3)
    both = Cascade(Priced(Tokens(), 0.5, Purse()), Tokens(), 0.2)
    assert both.most(*texts) == Cost(600, 1.5) and both.price == 0.5
    assert Cascade(Says(), Tokens(), 0.2).most(*texts) == Cost(300, 0.75)
    assert Cascade(Says(), Tokens(), 0.0).most(*texts) is None
    assert Cascade(Tokens(), Says(), 0.5).most(*texts) is None


# Whether it pays -----------------------------------------------------------------------------------------------------


def labelled(make_oracle, money: float, truth: np.ndarray) -> float:
    """Share of pairs that are labelled rightly for some money; what it does not reach counts a half."""
    purse = Purse(Limits(money=money))
    oracle = make_oracle(purse)
    right = np.full(len(truth), 0.5)
    try:
        for start in range(0, len(truth), 10):
            batch = truth[start : start + 10]
            win = answers(oracle, expit(batch))
            right[start : start + 10] = np.where(batch > 0, win, 1.0 - win) > 0.5
    except UserError:
        pass
    return float(right.mean())


@pytest.mark.parametrize("seed", range(3))
def test_under_a_budget_it_beats_either_oracle_alone(seed: int) -> None:
    """A judge at 0.05 that likes the first place by 2 logits, and a person at 1 who knows; money for 170 answers."""
    truth = np.random.default_rng(seed).normal(0.0, 2.0, 500)

    def made(band: float, calibration: int = 0):
        return lambda purse: Cascade(
            Priced(Says(lambda p: expit(logit(p) + 2.0)), 0.05, purse), Priced(Says(), 1.0, purse), band, calibration
        )

    cheap, dear = labelled(made(0.0), 170.0, truth), labelled(made(0.5), 170.0, truth)
    plain, corrected = labelled(made(0.1), 170.0, truth), labelled(made(0.1, 40), 170.0, truth)
    assert corrected > max(cheap, dear, plain) + 0.05
    assert corrected > 0.9
