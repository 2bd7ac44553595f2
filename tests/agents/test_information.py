"""What a duel would tell, against slow and obvious computation."""

import numpy as np
import pytest

from duelenv.agents.asking.posterior import deciding_geometry, geometry
from duelenv.agents.contextual.vids import outcome_swing
from duelenv.agents.information import gaps_of, of_all_pairs, outcome_information, outcome_variance

S, N, K = 40, 3, 4
RNG = np.random.default_rng(0)
DRAWS = RNG.normal(size=(S, N, K)) * [0.1, 1.0, 2.0, 0.5] + RNG.normal(size=(N, K))
NO_TIES = np.zeros((N, K))


def sigma(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_a_gap_is_of_the_first_less_the_second():
    gaps = gaps_of(DRAWS, np.array([[0, 1], [3, 2], [2, 2]]))
    np.testing.assert_allclose(gaps[:, 0], DRAWS[:, 0, 0] - DRAWS[:, 0, 1])
    np.testing.assert_allclose(gaps[:, 1], DRAWS[:, 1, 3] - DRAWS[:, 1, 2])
    assert (gaps[:, 2] == 0.0).all()


def test_information_is_what_a_label_takes_from_the_draws_by_bayes():
    """H(draw) - E[H(draw | label)], with every draw equally likely before: the other side of the mutual information."""
    gaps = np.array([-3.0, -0.5, 0.0, 1.0, 4.0])
    p = sigma(gaps)
    left = 0.0
    for likelihood in (p, 1 - p):
        posterior = likelihood / likelihood.sum()
        left -= likelihood.mean() * (posterior * np.log(posterior)).sum()
    assert outcome_information(gaps) == pytest.approx(np.log(5) - left, rel=1e-12)


def test_a_certain_posterior_and_a_coin_tell_nothing_and_a_bit_is_the_most():
    assert outcome_information(np.full(9, 1.3)) == pytest.approx(0.0, abs=1e-15)
    assert outcome_information(np.zeros(9)) == 0.0
    assert outcome_information(np.array([-800.0, 800.0])) == pytest.approx(np.log(2))
    assert outcome_variance(np.array([-800.0, 800.0])) == pytest.approx(0.25)


def test_all_pairs_are_measured_in_blocks_as_one_by_one(monkeypatch):
    monkeypatch.setattr("duelenv.agents.information._MOST", S * 6 * 2)  # two rows at once
    pairs, values = of_all_pairs(outcome_variance, DRAWS)
    assert pairs.T.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    for place, (i, j) in enumerate(pairs.T):
        np.testing.assert_allclose(values[:, place], sigma(DRAWS[..., i] - DRAWS[..., j]).var(axis=0))


def test_widths_are_deviations_of_differences_over_joint_draws():
    """Not the sum of two deviations: what two candidates share is not in their gap."""
    shared = DRAWS + 100.0 * RNG.normal(size=(S, N, 1))
    seen = geometry(shared, NO_TIES)
    expected = (DRAWS[..., :, np.newaxis] - DRAWS[..., np.newaxis, :]).std(axis=0)
    np.testing.assert_allclose(seen.widths(), expected, atol=0.03)
    np.testing.assert_allclose(geometry(DRAWS, NO_TIES).widths(), expected, atol=1e-5)
    gaps = (DRAWS[..., 1] - DRAWS[..., 3]).mean(axis=0)
    np.testing.assert_allclose(seen.mean[:, 1] - seen.mean[:, 3], gaps, atol=1e-5)


def test_only_what_differs_between_those_who_name_another_best_decides():
    """Two candidates that may be best by one coin, and a third whose utility is wide open but never the best."""
    coin = np.tile([1.0, -1.0], S // 2)
    wild = RNG.normal(size=S) * 5.0
    draws = np.stack([coin, -coin, wild - 50.0], axis=1)[:, np.newaxis]  # (S, 1, 3)
    seen, lost = deciding_geometry(draws, np.zeros((1, 3)))
    squares = seen.squares()[0]
    assert squares[0, 1] == pytest.approx(4.0, rel=1e-5)  # the gap is +2 or -2, as the best is 0 or 1
    between = np.mean([wild[coin > 0].mean(), wild[coin < 0].mean()])
    assert squares[0, 2] == pytest.approx(
        np.mean([(1 - wild[coin > 0].mean() + between) ** 2, (-1 - wild[coin < 0].mean() + between) ** 2]), rel=1e-4
    )
    assert lost[0] == pytest.approx(1.0)  # the favourite is behind by 2 in half of the draws
    swing = outcome_swing(seen)[0]
    assert swing[0, 1] == pytest.approx(4.0 / 16.0, rel=1e-4)
    assert swing[0, 1] > 1e6 * swing[0, 2]  # whose outcome is known
