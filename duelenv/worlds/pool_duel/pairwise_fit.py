"""The linear Bradley-Terry utility that all pairs of some prompts teach: exact, from tables and not from duels.

It is what the agents' linear belief (`duelenv.agents.beliefs.linear_logistic`) would hold if it were told the outcome
of every pair of every prompt, and so where duels of random pairs lead it. Not for labels one by one, nor for how sure
it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Float64 = NDArray[np.float64]

_ITERATIONS = 100
_TOLERANCE = 1e-12  # on the squared Newton decrement, twice the objective's distance from its minimum in nats
#: Weights that are worth holding in memory at a time, of prompts' weighted features.
_MOST_NUMBERS = 2**24


def fit_all_pairs(
    features: NDArray[np.floating[Any]],
    wins: Float64,
    *,
    prior_precision: float = 1.0,
    start: Float64 | None = None,
) -> Float64:
    """Return the weights theta that all pairs of responses to each prompt teach, every pair once.

    The minimiser of the sum over prompts and pairs i < j of
    -p_ij log sigma(theta . z) - (1 - p_ij) log sigma(-theta . z), z = phi_i - phi_j, plus
    prior_precision |theta|^2 / 2, where p_ij is the probability that i is preferred: the expected loss of one label on
    each pair. Newton's method, to rounding. Over the K responses of a prompt the Hessian is Phi' L Phi with a weighted
    Laplacian L, [K, K], so that a step costs P K d^2 and not P K^2 d^2 / 2.

    Args:
        features: Phi, [P, K, d].
        wins: p, float64 [P, K, K] in [0, 1] with p_ij + p_ji = 1; the diagonal is not read.
        prior_precision: Inverse prior variance of each weight, positive.
        start: Weights to begin with, [d]; 0 if absent. It decides the time and not the result.

    Returns:
        theta, float64 [d].

    Raises:
        RuntimeError: Newton's method did not converge.
    """
    phi = np.asarray(features, np.float64)
    dim = phi.shape[2]
    theta = np.zeros(dim) if start is None else np.array(start, np.float64)
    # Linear in theta: sum over pairs of p_ij z_ij, each pair once, which the loss's gradient starts from.
    shares = wins.sum(axis=2) - np.diagonal(wins, axis1=1, axis2=2)  # expected wins of each response, [P, K]
    value = _objective(phi @ theta, shares, theta, prior_precision)
    for _ in range(_ITERATIONS):
        scores = phi @ theta
        believed = expit(scores[:, :, np.newaxis] - scores[:, np.newaxis, :])  # [P, K, K]
        expected = believed.sum(axis=2) - 0.5
        gradient = np.einsum("pk,pkd->d", shares - expected, phi) - prior_precision * theta
        hessian = _hessian(phi, believed) + prior_precision * np.eye(dim)
        step = np.linalg.solve(hessian, gradient)
        if float(gradient @ step) <= _TOLERANCE * (1.0 + abs(value)):
            return theta + step
        length, slack = 1.0, 1e-12 * (1.0 + abs(value))
        while True:  # a convex problem: some step always lowers it
            trial = theta + length * step
            reached = _objective(phi @ trial, shares, trial, prior_precision)
            if reached <= value + slack:
                break
            length /= 2
        theta, value = trial, reached
    raise RuntimeError(f"Newton's method did not converge in {_ITERATIONS} iterations.")


def _objective(scores: Float64, shares: Float64, theta: Float64, prior_precision: float) -> float:
    """Compute the loss for scores [P, K]: -p log sigma(g) - (1 - p) log sigma(-g) = log(1 + e^g) - p g for a gap g."""
    gaps = scores[:, :, np.newaxis] - scores[:, np.newaxis, :]
    # Over i < j, log(1 + e^g) - p g = [log(1 + e^g) + log(1 + e^-g)] / 2 + (1/2 - p) g.
    softplus = np.logaddexp(0.0, gaps).sum()  # both orders; the diagonal adds a constant
    size = scores.shape[1]
    linear = (((size - 1) / 2 - shares) * scores).sum()
    return float(softplus / 2 + linear + prior_precision / 2 * (theta @ theta))


def _hessian(phi: Float64, believed: Float64) -> Float64:
    """Sum over pairs of p (1 - p) z z', [d, d]."""
    weights = believed * (1.0 - believed)
    size, dim = phi.shape[1:]
    weights[:, np.arange(size), np.arange(size)] = 0.0
    laplacian = -weights
    laplacian[:, np.arange(size), np.arange(size)] = weights.sum(axis=2)
    total = np.zeros((dim, dim))
    step = max(1, _MOST_NUMBERS // (size * dim))
    for start in range(0, len(phi), step):
        block = phi[start : start + step]
        total += block.reshape(-1, dim).T @ (laplacian[start : start + step] @ block).reshape(-1, dim)
    return total
