"""The check of oracles: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import numpy as np
import pytest

from duelenv import oracles
from duelenv.oracles import UtilityOracle
from duelenv.testing import (
    CheckFailed,
    check_oracle,
)


@pytest.mark.parametrize("name", ["good_words", "rare_word", "length", "variety", "on_topic", "opening"])
def test_oracles_of_the_project_pass(name):
    check_oracle(lambda: oracles.make(name))
    check_oracle(lambda: oracles.make(name, noise=0.2, temperature=2.0, tie_band=0.1))
    check_oracle(lambda: oracles.make(name, position_bias=0.5), symmetric=False)


def lengths(prompts, responses):
    return np.array([float(len(text)) for text in responses]) / 10


def of_lengths(prompts, first, second):
    return 1 / (1 + np.exp(lengths(prompts, second) - lengths(prompts, first)))


class WrongMaximum(UtilityOracle):
    def utility(self, prompts, responses):
        return lengths(prompts, responses)

    def maximum(self, prompts):
        return np.full(len(prompts), 1.0)


class OwnCall(WrongMaximum):
    def maximum(self, prompts):
        return None

    def __call__(self, prompts, first, second, /):
        return np.clip(super().__call__(prompts, first, second) * 0.9 + 0.05, 0, 1)


def drawing():
    rng = np.random.default_rng(0)
    return lambda p, a, b: np.where(np.array(a) == np.array(b), 0.5, rng.integers(0, 2, len(p)).astype(float))


def by_batch(prompts, first, second):
    mean = np.mean([len(text) for text in first])
    return np.clip(of_lengths(prompts, first, second) + 1e-3 * mean / len(first), 0, 1)


def writing(prompts, first, second):
    answer = of_lengths(prompts, first, second)
    prompts[0] = "written"
    return answer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (drawing, "answered the same questions differently a second time"),
        (lambda: by_batch, "alone and|in another"),
        (lambda: writing, "changed the texts"),
        (lambda: lambda p, a, b: np.full(len(p), 1.5), "the oracle's answer was refused"),
        (lambda: lambda p, a, b: np.full(len(p), 0.6), "both orders and the tie add up to 1.2"),
        (WrongMaximum, "maximum of .* is 1, and a response has the utility"),
        (OwnCall, "do not follow from the utility"),
        (lambda: lambda p, a, b: np.arange(len(p)) / len(p), "in another|alone and"),
    ],
)
def test_wrong_oracles_fail(make, message):
    with pytest.raises(CheckFailed, match=message):
        check_oracle(make)
