"""Regret by name: each notion against the sentence that defines it, and the conversions between them."""

import sys

import numpy as np
import pytest
from worlds import MATRIX, make_vector

from duelenv import UserError
from duelenv.oracles.links import LINKS
from duelenv.oracles.matrices import bradley_terry, cyclic, random, von_neumann_winner
from duelenv.regret import (
    arm_losses,
    duel_regret,
    mean_loss,
    probability_regret,
    utility_from_gaps,
    utility_regret,
)

CYCLE = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
# A cycle of margins 0.1, 0.2, 0.3, whose von Neumann winner is (2, 3, 1, 0) / 6, and an arm that loses to all of it.
CYCLE_AND_LOSER = 0.5 + np.array([[0, 0.1, -0.3, 0.4], [-0.1, 0, 0.2, 0.2], [0.3, -0.2, 0, 0.1], [-0.4, -0.2, -0.1, 0]])


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


def test_sum_is_twice_average_and_strong_and_weak_add_up_to_it():
    gaps = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 200))
    regret = probability_regret(*gaps)
    np.testing.assert_allclose(regret["sum"], 2 * regret["average"], rtol=1e-15)
    np.testing.assert_allclose(regret["strong"] + regret["weak"], regret["sum"], rtol=1e-12, atol=1e-15)
    assert (regret["weak"] <= regret["average"]).all()
    assert (regret["average"] <= regret["strong"]).all()


@pytest.mark.parametrize("link", LINKS)
def test_utility_regret_goes_to_gaps_and_back(link):
    best, first, second = np.random.default_rng(1).normal(size=(3, 200))
    regret = duel_regret(LINKS[link], best, first, second)
    gaps = [LINKS[link](best - utility) - 0.5 for utility in (first, second)]
    np.testing.assert_allclose(utility_from_gaps(LINKS[link], *gaps), regret["utility"], atol=1e-7)
    again = [LINKS[link](utility_from_gaps(LINKS[link], gap, gap)) - 0.5 for gap in gaps]  # both candidates alike
    np.testing.assert_allclose(again, gaps, atol=1e-12)


def test_gaps_of_one_half_stand_for_any_utility_and_larger_ones_are_refused():
    half, none = np.array([0.5]), np.array([0.0])
    assert utility_from_gaps(LINKS["logistic"], none, none)[0] == pytest.approx(0.0, abs=1e-15)
    assert utility_from_gaps(LINKS["logistic"], none, half)[0] == np.inf
    with pytest.raises(UserError, match=r"a gap is 0.7, expected P - 1/2 in \[-0.5, 0.5\]"):
        utility_from_gaps(LINKS["logistic"], np.array([0.7]), none)


def test_the_gaps_of_a_matrix_give_back_its_utilities():
    utilities = np.array([1.5, 0.3, -2.0])
    gaps = arm_losses(bradley_terry(utilities))["condorcet"]
    first, second = np.array([0, 1, 2, 1]), np.array([1, 1, 0, 2])
    expected = utility_regret(utilities[0], utilities[first], utilities[second])
    np.testing.assert_allclose(utility_from_gaps(LINKS["logistic"], gaps[first], gaps[second]), expected, atol=1e-12)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("worst", [0.1, 1.0, 6.0])
def test_probability_regret_lies_between_two_multiples_of_utility_regret(link, worst):
    """A link is concave above 0: below its tangent at 0, above its chord up to the largest difference."""
    below = np.random.default_rng(2).uniform(0, worst, (2, 500))
    below[:, :2] = [[worst, 1e-7], [worst, 1e-7]]
    regret = duel_regret(LINKS[link], np.zeros(500), -below[0], -below[1])
    slope = (LINKS[link](np.array(1e-5)) - 0.5) / 1e-5
    chord = (LINKS[link](np.array(worst)) - 0.5) / worst
    ratio = regret["average"] / regret["utility"]
    assert (ratio <= slope * (1 + 1e-6)).all()
    assert (ratio >= chord * (1 - 1e-6)).all()
    assert ratio[0] == pytest.approx(chord)  # both bounds are reached
    assert ratio[1] == pytest.approx(slope, rel=1e-6)


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
    assert set(regret) == {"borda", "copeland", "von_neumann"}
    assert regret["copeland"][0] == 0.0  # every arm beats one other


def test_the_regret_of_a_duel_is_the_mean_of_its_arms_losses():
    losses = np.array([0.7, 0.0, 0.4])
    first, second = np.array([1, 1, 0]), np.array([1, 2, 2])
    np.testing.assert_allclose(mean_loss(losses, first, second), [0.0, 0.2, 0.55])


@pytest.mark.parametrize("num_arms", [5, 7, 9, 11])
def test_the_arms_of_a_cycle_lose_exactly_nothing(num_arms):
    for probability in (0.75, 0.8, 2 / 3):
        for name, losses in arm_losses(cyclic(num_arms, probability)).items():
            assert (losses == 0.0).all(), name
            assert not np.signbit(losses).any(), name


@pytest.mark.parametrize("seed", range(3))
def test_arms_that_tie_with_the_von_neumann_winner_lose_exactly_nothing_and_others_all_they_lose(seed):
    matrix = random(20, seed)
    weights = von_neumann_winner(matrix)
    losses = arm_losses(matrix)["von_neumann"]
    np.testing.assert_array_equal(losses == 0.0, weights > 1e-9)
    np.testing.assert_array_equal(losses[losses > 0.0], (weights @ matrix - 0.5)[losses > 0.0])


@pytest.mark.parametrize("seed", range(6))
def test_no_arm_loses_less_than_nothing_and_some_arm_nothing(seed):
    matrix = random(5, seed)
    for name, losses in arm_losses(matrix).items():
        assert losses.min() == pytest.approx(0.0, abs=1e-12), name
        assert (losses >= 0.0).all(), name


def test_von_neumann_regret_is_against_the_distribution_that_is_never_beaten():
    weights = np.array([2.0, 3.0, 1.0, 0.0]) / 6.0
    expected = weights @ CYCLE_AND_LOSER - 0.5
    assert expected[3] == pytest.approx((2 * 0.4 + 3 * 0.2 + 0.1) / 6)
    env = make_vector("duelenv/MatrixDuel-v0", 16, matrix=CYCLE_AND_LOSER)
    env.reset(seed=0)
    pairs = np.array([(i, j) for i in range(4) for j in range(4)])
    regret = env.step(pairs)[-1]["regret"]["von_neumann"]
    for row, (i, j) in enumerate(pairs):
        against = [sum(weights[arm] * CYCLE_AND_LOSER[arm, rival] for arm in range(4)) for rival in (i, j)]
        assert regret[row] == pytest.approx(sum(against) / 2 - 0.5, abs=1e-9)
    assert (regret >= 0.0).all()
    assert (regret[:3] == 0.0).all()  # arms of the cycle cost nothing, whichever meet


def test_with_a_condorcet_winner_von_neumann_regret_is_average_and_needs_no_linear_programme(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)  # now its import fails
    env = make_vector("duelenv/MatrixDuel-v0", 16)
    env.reset(seed=0)
    regret = env.step(np.array([(i, j) for i in range(4) for j in range(4)]))[-1]["regret"]
    np.testing.assert_array_equal(regret["von_neumann"], regret["average"])
    regret["average"] += 1.0  # no memory is shared
    assert (regret["von_neumann"] < 0.5).all()
    with pytest.raises(ImportError):
        make_vector("duelenv/MatrixDuel-v0", 1, matrix=CYCLE)


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
