"""Lower bounds on regret, to lay over measured curves; no bound of any particular algorithm.

Komiyama's constant is exact for an instance and asymptotic in T: a good algorithm may well lie below c ln T at
moderate T. The minimax curves hold up to constants, which are 1 here: their slope counts, not their height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.matrices import check_matrix, condorcet_winner


def bernoulli_divergence(p: ArrayLike, q: ArrayLike) -> NDArray[np.float64]:
    """Return d(p, q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) in nats, with 0 ln 0 = 0.

    Infinite where q is 0 or 1 and p is not the same.

    Example:
        >>> round(float(bernoulli_divergence(0.0, 0.5)), 6)
        0.693147
    """
    p, q = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64))
    with np.errstate(divide="ignore"):  # ln 0 is -inf, and xlogy drops it where its factor is 0
        log_q, log_rest = np.log(q), np.log1p(-q)
    entropy = xlogy(p, p) + xlogy(1.0 - p, 1.0 - p)
    with np.errstate(invalid="ignore"):  # 0 times -inf, which the next lines replace
        cross = np.where(p == 0.0, 0.0, p * log_q)
        cross_rest = np.where(p == 1.0, 0.0, (1.0 - p) * log_rest)
    divergence: NDArray[np.float64] = np.maximum(entropy - cross - cross_rest, 0.0)  # not -1e-17
    return divergence


def komiyama_constant(matrix: ArrayLike) -> float:
    """Return c of the lower bound R(T) >= c ln T for regret in the average form.

    Komiyama et al. 2015 (arXiv 1506.02550), theorem 1: an algorithm whose regret is o(T^a) for every a > 0 and every
    matrix has liminf R(T) / ln T >= c with

        c = sum_{i != 1} min_{j : p_ij < 1/2} (D_1i + D_1j) / (2 d(p_ij, 1/2)),  D_1j = p_1j - 1/2,

    arm 1 the Condorcet winner: each other arm must be told apart from a winner by duels with the rival that does so
    at the least regret.

    Args:
        matrix: P[i, j] = P(i beats j), [K, K].

    Raises:
        UserError: The matrix is not valid, or has no Condorcet winner.

    Example:
        >>> from math import log
        >>> c = komiyama_constant([[0.5, 0.75], [0.25, 0.5]])
        >>> round(c, 6) == round(0.25 / (2 * (0.75 * log(0.75) + 0.25 * log(0.25) + log(2))), 6)
        True
    """
    probabilities = check_matrix(matrix)
    winner = condorcet_winner(probabilities)
    if winner is None:
        raise UserError(
            "matrix has no Condorcet winner, and Komiyama's constant needs one; choose a matrix in which one arm "
            "beats every other"
        )
    gaps = probabilities[winner] - 0.5
    cost = 0.5 * (gaps[:, np.newaxis] + gaps[np.newaxis, :])
    divergence = bernoulli_divergence(probabilities, 0.5)
    ratio = np.full_like(cost, np.inf)
    np.divide(cost, divergence, out=ratio, where=probabilities < 0.5)
    others = np.arange(len(probabilities)) != winner
    return float(ratio[others].min(axis=1).sum())


def logarithmic(steps: ArrayLike, matrix: ArrayLike) -> NDArray[np.float64]:
    """Return c ln t with Komiyama's constant of the matrix, for steps t of at least 1, in the average form."""
    return komiyama_constant(matrix) * np.log(_steps(steps))


def finite_arms(steps: ArrayLike, num_arms: int) -> NDArray[np.float64]:
    """Return sqrt(K t), the minimax rate of K-armed duels (Dudik et al. 2015, arXiv 1502.06362), constant 1."""
    checks.integer("num_arms", num_arms, low=1)
    return np.sqrt(num_arms * _steps(steps))


def linear_finite(steps: ArrayLike, dim: int) -> NDArray[np.float64]:
    """Return sqrt(d t), the minimax rate of linear contextual duels of finitely many arms, constant 1.

    Up to logarithms; Saha 2021 (Optimal algorithms for stochastic contextual preference bandits).
    """
    checks.integer("dim", dim, low=1)
    return np.sqrt(dim * _steps(steps))


def linear_infinite(steps: ArrayLike, dim: int) -> NDArray[np.float64]:
    """Return d sqrt(t), the minimax rate of linear contextual duels of infinitely many arms, constant 1.

    Up to logarithms; Bengs et al. 2022 (arXiv 2202.04593).
    """
    checks.integer("dim", dim, low=1)
    return dim * np.sqrt(_steps(steps))


def _steps(steps: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(steps, np.float64)
    if not (values >= 1.0).all():
        raise UserError(f"steps hold {np.min(values):g}, expected rounds counted from 1; start at 1")
    return values
