"""Lower bounds against constants worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import duelenv
from duelenv import bounds
from duelenv.oracles.matrices import cyclic

PUBLISHED = Path(__file__).parents[2] / ".." / "shared" / "data" / "preference_matrices" / "bt_K10.npy"


def test_divergence_by_hand():
    assert bounds.bernoulli_divergence(0.25, 0.5) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    np.testing.assert_allclose(bounds.bernoulli_divergence([0.0, 1.0], 0.5), math.log(2))
    assert bounds.bernoulli_divergence(0.5, 1.0) == math.inf
    assert bounds.bernoulli_divergence(1.0, 1.0) == 0.0
    p = np.linspace(0, 1, 101)
    divergence = bounds.bernoulli_divergence(p, p)
    assert (divergence >= 0).all() and (divergence < 1e-15).all()
    np.testing.assert_allclose(bounds.bernoulli_divergence(p, 0.5), bounds.bernoulli_divergence(1 - p, 0.5), atol=1e-15)


def test_two_arms():
    """One pair: (0 + 1/4) / (2 d(1/4, 1/2))."""
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert bounds.komiyama_constant([[0.5, 0.75], [0.25, 0.5]]) == pytest.approx(0.125 / divergence)


def test_three_arms_choose_the_cheaper_rival():
    """Arm 2 loses to arm 1 so clearly that duels with arm 1 tell more per regret than those with the winner."""
    matrix = np.array([[0.5, 0.6, 0.6], [0.4, 0.5, 0.99], [0.4, 0.01, 0.5]])
    d = bounds.bernoulli_divergence
    by_winner = 0.1 / (2 * d(0.4, 0.5))
    by_second = (0.1 + 0.1) / (2 * d(0.01, 0.5))
    assert by_second < by_winner
    assert bounds.komiyama_constant(matrix) == pytest.approx(by_winner + by_second)


def test_the_constant_does_not_depend_on_the_numbering():
    matrix = np.array([[0.5, 0.6, 0.7], [0.4, 0.5, 0.8], [0.3, 0.2, 0.5]])
    order = [2, 0, 1]
    assert bounds.komiyama_constant(matrix[np.ix_(order, order)]) == pytest.approx(bounds.komiyama_constant(matrix))


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the development data (../shared/data) are not here")
def test_published_constant():
    constant = bounds.komiyama_constant(np.load(PUBLISHED))
    assert round(constant, 2) == 7.27
    assert round(constant * math.log(10**4)) == 67


def test_curves():
    steps = np.array([1, 100, 400])
    matrix = [[0.5, 0.75], [0.25, 0.5]]
    np.testing.assert_allclose(
        bounds.logarithmic(steps, matrix), bounds.komiyama_constant(matrix) * np.log([1, 100, 400])
    )
    np.testing.assert_allclose(bounds.finite_arms(steps, 9), [3, 30, 60])
    np.testing.assert_allclose(bounds.linear_finite(steps, 4), [2, 20, 40])
    np.testing.assert_allclose(bounds.linear_infinite(steps, 4), [4, 40, 80])


def test_what_is_refused():
    with pytest.raises(duelenv.UserError, match="no Condorcet winner"):
        bounds.komiyama_constant(cyclic(3))
    with pytest.raises(duelenv.UserError, match="start at 1"):
        bounds.finite_arms([0, 1], 3)
    with pytest.raises(duelenv.UserError, match="dim is 0"):
        bounds.linear_finite([1], 0)
    with pytest.raises(duelenv.UserError, match="num_arms is 0"):
        bounds.finite_arms([1], 0)
