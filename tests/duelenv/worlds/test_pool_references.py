"""What all pairs teach: what an exact belief told each of them knows; the optimum where a linear utility is true."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from pools import FEATURES, POOL, PROMPTS, RESPONSES, make

from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.data import Pool
from duelenv.worlds import pairwise_fit
from duelenv.worlds.pairwise_fit import fit_all_pairs

PAIRS = list(itertools.combinations(range(RESPONSES), 2))


def sigmoid(gap: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(gap)))


def wins_of(utilities: np.ndarray) -> np.ndarray:
    return np.asarray(sigmoid(utilities[:, :, None] - utilities[:, None, :]))


def believed(prompts: np.ndarray, wins: np.ndarray, prior_precision: float = 1.0) -> np.ndarray:
    """The weights of the agents' exact belief after one soft label on every pair, [d]."""
    settings = LinearLogisticSettings(estimator="laplace", prior_precision=prior_precision)
    belief = LinearLogistic(FEATURES.shape[2], replicates=1, batch=1, root=0, settings=settings)
    rows = [(FEATURES[p, i], FEATURES[p, j], wins[p, i, j]) for p in prompts for i, j in PAIRS]
    belief.update(*(np.array(column) for column in zip(*rows, strict=True)))
    return belief.theta[0]


@pytest.mark.parametrize("prior_precision", [1.0, 30.0])
def test_the_fit_is_what_an_exact_belief_learns_from_every_pair_once(prior_precision: float) -> None:
    wins = wins_of(POOL.utilities)
    theta = fit_all_pairs(FEATURES, wins, prior_precision=prior_precision)
    np.testing.assert_allclose(theta, believed(np.arange(PROMPTS), wins, prior_precision), atol=1e-7)


def test_the_start_and_the_memory_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wins = (np.sign(POOL.utilities[:, :, None] - POOL.utilities[:, None, :]) + 1) / 2
    theta = fit_all_pairs(FEATURES, wins)
    np.testing.assert_allclose(fit_all_pairs(FEATURES, wins, start=np.full(3, 40.0)), theta, atol=1e-7)
    monkeypatch.setattr(pairwise_fit, "_MOST_NUMBERS", 7 * RESPONSES * 3)
    np.testing.assert_allclose(fit_all_pairs(FEATURES, wins), theta, atol=1e-10)


@pytest.mark.parametrize("feedback", ["bernoulli", "argmax"])
def test_the_reference_row_is_the_regret_of_that_belief_on_the_held_out_prompts(feedback: str) -> None:
    env = make(3, feedback=feedback)
    env.reset(seed=0)
    reference = env.references()["fit_on_all_pairs"]
    law = wins_of(POOL.utilities)
    if feedback == "argmax":
        law = np.round(law)
    for replicate in range(3):
        test, train = (env._members(split)[0][replicate] for split in ("test", "train"))
        arms = (FEATURES[test] @ believed(train, law)).argmax(axis=1)
        gap = POOL.utilities[test].max(axis=1) - POOL.utilities[test, arms]
        assert reference[replicate] == pytest.approx(gap.mean(), abs=1e-9)
    assert env.references("train")["fit_on_all_pairs"][0] != reference[0]


@pytest.mark.parametrize("link", ["logistic", "probit"])
def test_where_a_linear_utility_is_true_all_pairs_find_the_best_response(link: str) -> None:
    utilities = FEATURES.astype(np.float64) @ np.array([3.0, -2.0, 1.0])
    env = make(16, data=Pool(POOL.prompts, POOL.responses, utilities), link=link)
    env.reset(seed=0)
    references = env.references()
    assert references["fit_on_all_pairs"].max() < 0.02 < 1 < references["random"].min()


def test_features_that_tell_nothing_are_worth_a_random_response_and_slots_give_nothing_away() -> None:
    env = make(4, features=np.zeros_like(FEATURES))
    env.reset(seed=0)
    references = env.references()
    np.testing.assert_allclose(references["fit_on_all_pairs"], references["random"])


def test_another_oracle_is_not_asked_for_all_pairs() -> None:
    asked = []

    def oracle(prompts: Any, first: Any, second: Any) -> np.ndarray:
        asked.append(len(prompts))
        return np.full(len(prompts), 0.5)

    env = make(2, oracle=oracle)
    env.reset(seed=0)
    assert set(env.references()) == {"random", "longest_response", "best_single_responder"} and not asked
