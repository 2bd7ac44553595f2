"""Regret by name: each notion against the sentence that defines it, and the conversions between them."""

import numpy as np
import pytest
from worlds import MATRIX, make_vector

from duelenv.oracles.links import LINKS
from duelenv.regret import duel_regret, probability_regret, score_regret, utility_regret

CYCLE = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])


@pytest.mark.parametrize("link", LINKS)
def test_the_notions_are_what_their_names_say(link):
    rng = np.random.default_rng(0)
    best, first, second = np.sort(rng.normal(size=(3, 50)), axis=0)[::-1]
    regret = duel_regret(LINKS[link], best, first, second)
    for row in range(50):
        gaps = [float(LINKS[link](np.array(best[row] - u[row]))) - 0.5 for u in (first, second)]
        assert regret["sum"][row] == pytest.approx(sum(gaps))
        assert regret["average"][row] == pytest.approx(sum(gaps) / 2)
        assert regret["strong"][row] == pytest.approx(max(gaps))
        assert regret["weak"][row] == pytest.approx(min(gaps))
        assert regret["utility"][row] == pytest.approx(best[row] - (first[row] + second[row]) / 2)


def test_seas_two_forms_differ_and_are_named_apart():
    """P(a* > a) + P(a* > a') - 1 is `sum`; r(a*) - (r(a) + r(a')) / 2 is `utility`."""
    best, first, second = np.array([2.0]), np.array([1.0]), np.array([-1.0])
    regret = duel_regret(LINKS["logistic"], best, first, second)
    sigma = 1 / (1 + np.exp(-np.array([1.0, 3.0])))
    assert regret["sum"][0] == pytest.approx(sigma.sum() - 1)
    assert regret["utility"][0] == pytest.approx(2.0)


def test_close_to_the_best_utility_regret_is_four_times_probability_regret():
    """The logistic link has slope 1/4 at 0."""
    best, first, second = np.array([1e-4]), np.array([0.0]), np.array([5e-5])
    regret = duel_regret(LINKS["logistic"], best, first, second)
    assert regret["utility"][0] / regret["average"][0] == pytest.approx(4.0, rel=1e-6)


def test_duelling_the_best_with_itself_costs_nothing():
    zero = np.zeros(3)
    assert all((value == 0).all() for value in probability_regret(zero, zero).values())
    assert (utility_regret(zero, zero, zero) == 0).all()


def test_the_matrix_world_measures_against_the_condorcet_winner():
    env = make_vector("duelenv/MatrixDuel-v0", 16)
    env.reset(seed=0)
    pairs = np.array([(i, j) for i in range(4) for j in range(4)])
    regret = env.step(pairs)[-1]["regret"]
    for row, (i, j) in enumerate(pairs):
        assert regret["average"][row] == pytest.approx((MATRIX[0, i] + MATRIX[0, j] - 1) / 2)
        others = [np.mean([MATRIX[arm, rival] for rival in range(4) if rival != arm]) for arm in (0, i, j)]
        assert regret["borda"][row] == pytest.approx(others[0] - (others[1] + others[2]) / 2)


def test_without_a_condorcet_winner_its_notions_are_absent():
    env = make_vector("duelenv/MatrixDuel-v0", 1, matrix=CYCLE)
    env.reset(seed=0)
    regret = env.step(np.array([[0, 1]]))[-1]["regret"]
    assert set(regret) == {"borda", "copeland"}
    assert regret["copeland"][0] == 0.0  # every arm beats one other


def test_score_regret_is_zero_for_the_best_only():
    scores = np.array([0.2, 0.9, 0.5])
    first, second = np.array([1, 1, 0]), np.array([1, 2, 2])
    np.testing.assert_allclose(score_regret(scores, first, second), [0.0, 0.2, 0.55])


def test_the_feature_world_measures_against_the_best_of_the_round():
    env = make_vector("duelenv/FeatureDuel-v0", 8)
    observation, _ = env.reset(seed=0)
    theta = env._utility.theta  # the truth, which no agent has
    utility = np.einsum("nkd,nd->nk", observation["features"].astype(float), theta)
    pairs = np.random.default_rng(0).integers(0, 4, (8, 2))
    regret = env.step(pairs)[-1]["regret"]["utility"]
    rows = np.arange(8)
    expected = utility.max(1) - (utility[rows, pairs[:, 0]] + utility[rows, pairs[:, 1]]) / 2
    np.testing.assert_allclose(regret, expected, atol=1e-5)
    assert (regret >= -1e-6).all()


def test_public_preferences_are_those_that_the_labels_follow():
    env = make_vector("duelenv/MatrixDuel-v0", 4000)
    env.reset(seed=0)
    actions = np.tile([[1, 0]], (4000, 1))
    preferences = env.preferences(actions)
    assert (preferences.win == MATRIX[1, 0]).all()
    _, labels, _, _, info = env.step(actions)
    assert labels.mean() == pytest.approx(MATRIX[1, 0], abs=0.04)
    np.testing.assert_allclose(info["certainty"], abs(2 * MATRIX[1, 0] - 1))
