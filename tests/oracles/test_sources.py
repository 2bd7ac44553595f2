"""Sources that answer later, and what only looks like an answer: at once or later, the same values are taken."""

import numpy as np
import pytest
import torch

from duelenv.oracles import Answer, Noise, Preferences, Request, UserError, answers_later, ask, make, register
from duelenv.oracles.base import ORACLES, UtilityOracle, finite_utility
from duelenv.oracles.sources import checked, collected
from duelenv.oracles.wrappers import WRAPPERS, DisturbedSource

ONE = (["p"], ["a"], ["b"])
VALUES = {"temperature": 2.0, "position_bias": 0.5, "tie_band": 0.2, "noise": 0.1}


class Desk:
    def __init__(self, answers=()):
        self.asked, self.answers = [], list(answers)

    def ask(self, requests):
        self.asked += requests

    def collect(self):
        return self.answers


def test_a_source_is_told_from_a_function_by_its_methods():
    assert answers_later(Desk())
    assert not answers_later(lambda prompts, first, second: [0.5])
    for wrong in (3, None, type("Half", (), {"ask": lambda self, requests: None})()):
        with pytest.raises(UserError, match="expected a function"):
            answers_later(wrong)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_changes_late_answers_as_it_changes_others(name, monkeypatch):
    """Over probabilities, the answers of a disturbed source are those of the disturbed function."""
    win, tie = [0.9, 0.5, 0.2, 0.0], [0.0, 0.1, 0.3, 1.0]
    said = [Answer(str(number), *pair) for number, pair in enumerate(zip(win, tie, strict=True))]
    monkeypatch.setattr(ORACLES, "_parts", dict(ORACLES._parts))
    register("desk_of_this_test", lambda: Desk(said))
    source = make("desk_of_this_test", **{name: VALUES[name]})
    assert isinstance(source, DisturbedSource) and answers_later(source)
    at_once = WRAPPERS[name](lambda prompts, first, second: Preferences(np.array(win), np.array(tie)), VALUES[name])
    expected = at_once(["p"] * 4, ["a"] * 4, ["b"] * 4)
    found = list(source.collect())
    assert [answer.id for answer in found] == ["0", "1", "2", "3"]
    np.testing.assert_allclose([answer.win for answer in found], expected.win)
    np.testing.assert_allclose([answer.tie for answer in found], expected.tie)
    assert (expected.win != win).any() or (expected.tie != tie).any()
    request = Request("1", 0, 0, "p", "a", "b")
    source.ask([request])
    assert source.inner.asked == [request]


def test_only_a_source_that_can_wait_is_asked_for_all_in_a_last_round():
    early, all_of_it = Answer("a", 1.0), [Answer("a", 1.0), Answer("b", 0.0)]
    patient = type("Patient", (Desk,), {"collect_last": lambda self: all_of_it})([early])
    assert list(collected(Desk([early]), last=True)) == [early]
    assert list(collected(patient, last=False)) == [early]
    assert list(collected(patient, last=True)) == all_of_it
    # Through wrappers too, whether what they are around can wait or not.
    certain = [DisturbedSource(inner, Noise(lambda *duels: None, 0.0)) for inner in (patient, Desk([early]))]
    assert [list(collected(one, last=True)) for one in certain] == [all_of_it, [early]]


def test_a_disturbed_source_with_nothing_to_say_says_nothing():
    assert list(DisturbedSource(Desk(), Noise(lambda *duels: [0.5], 0.1)).collect()) == []


@pytest.mark.parametrize(
    "answer",
    [
        ["0.7"],
        [0.7 + 0j],
        np.array([1], "timedelta64[s]"),
        np.ma.array([0.7], mask=[True]),
        [None],
        [10**400],
        [[0.7]],
        {"a": 0.7},
    ],
)
def test_what_only_looks_like_a_probability_is_refused(answer):
    with pytest.raises(UserError, match="oracle returned"):
        ask(lambda *duels: answer, *ONE)


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor([0.75], requires_grad=True),
        torch.tensor([0.75], dtype=torch.bfloat16),
        [torch.tensor(0.75)],
        (0.75,),
        np.array([0.75], np.float16),
    ],
)
def test_numbers_of_any_make_are_probabilities(answer):
    assert ask(lambda *duels: answer, *ONE).win.tolist() == [0.75]
    assert ask(lambda *duels: Preferences(answer, [0.25]), *ONE).tie.tolist() == [0.25]


class Utility(UtilityOracle):
    def __init__(self, values):
        self.values = values

    def utility(self, prompts, responses):
        return self.values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan, 1.0], "is nan for response 'a', expected a finite number"),
        ([1.0, np.inf], "is inf for response 'b', expected a finite number"),
        ([1.0], r"shape \(1,\) for 2 responses"),
        (["1", "2"], "expected 2 finite numbers"),
        (None, "expected 2 finite numbers"),
    ],
)
def test_a_utility_that_is_no_number_is_a_fault_and_no_answer(values, message):
    with pytest.raises(UserError, match=message):
        ask(Utility(values), *ONE)
    with pytest.raises(UserError, match=message):
        finite_utility(Utility(values), ["p", "p"], ["a", "b"])


def test_answers_are_clipped_where_they_are_off_by_rounding():
    assert checked(Answer("a", 1.0 + 5e-7)) == Answer("a", 1.0)
    assert checked(Answer("a", 0.75, 0.25 + 5e-7)) == Answer("a", 0.75, 0.25)
    declined = checked(Answer("a", float("nan"), 0.5))
    assert np.isnan(declined.win) and declined.tie == 0.0
    for tie in (float("nan"), 0.5):
        with pytest.raises(UserError, match="a sum of at most 1"):
            checked(Answer("a", 0.75, tie))


def test_a_wrong_answer_behind_a_wrapper_is_one_sentence():
    """It is passed on, for the world to refuse beside the good ones."""
    collected = DisturbedSource(Desk([0.7, Answer("a", 1.0), Answer("b", 1.4)]), Noise(lambda *duels: [0.5], 0.1))
    wrong, good, beyond = collected.collect()
    assert wrong == 0.7 and good == Answer("a", 0.9) and beyond == Answer("b", 1.4)
    for answer in (wrong, beyond, Answer([1], 0.5), Answer("a", [0.5])):
        with pytest.raises(UserError, match="expected"):
            checked(answer)


def test_preferences_are_clipped_where_they_are_off_by_rounding():
    answer = ask(lambda *duels: Preferences(np.array([0.75]), np.array([0.25 + 5e-7])), *ONE)
    assert answer.tie.tolist() == [0.25] and answer.lose.tolist() == [0.0]
    declined = ask(lambda *duels: Preferences(np.array([np.nan]), np.array([0.5])), *ONE)
    assert declined.tie.tolist() == [0.0]


def test_a_utility_in_a_column_is_refused():
    with pytest.raises(UserError, match=r"shape \(2, 1\)"):
        ask(Utility([[1.0], [2.0]]), *ONE)
