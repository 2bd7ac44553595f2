"""How seldom something like a response has duelled: coin-flip counts over features of the start model, linear case.

A coin-flip network answers random coins c in {-1, 1}^m that are drawn anew for each response that is counted; what it
says squared, on average over the m coins, is about 1 / count, since N coins of one response average to a square of
1 / N. Where the network is linear in features phi, fitted by least squares with precision lambda around random weights
of the prior N(0, I / lambda), that square is phi' (lambda I + sum phi phi')^-1 phi in expectation. This is what is
computed: no coins and no steps are needed, and b(y), its root, is both 1 / sqrt(count) and the width of a linear
bandit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

Array = NDArray[np.float64]


def inverse_root_count(features: Array, gram: Array, prior: float) -> Array:
    """Return sqrt(phi' (lambda I + gram)^-1 phi): on one-hot features 1 / sqrt(lambda + count).

    Args:
        features: phi, [..., d].
        gram: sum phi phi' over what was counted, [d, d].
        prior: lambda, above 0: how often everything counts as seen beforehand.

    Returns:
        float64 [...].
    """
    factor = np.linalg.cholesky(gram + prior * np.eye(len(gram)))
    flat = features.reshape(-1, features.shape[-1])
    return np.asarray(np.sqrt((solve_triangular(factor, flat.T, lower=True) ** 2).sum(0)).reshape(features.shape[:-1]))


class LinearCounts:
    """Counts of responses by their features, which are put on one scale by what was counted so far.

    phi is (1, (e - mean) / (deviation sqrt d)) of the raw features e, so that its square is about 2 and N responses
    count as N in all. Sums of e and of e e' are kept, not the responses, and the scale may go on changing.

    Args:
        dim: Number of raw features d. Memory is d^2 numbers, time d^3 whenever the novelty is asked for.
        prior: lambda, above 0.
    """

    def __init__(self, dim: int, prior: float = 1.0) -> None:
        self._prior = prior
        self._sums = np.zeros((dim + 1, dim + 1))  # of (1, e) (1, e)'

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._sums[0, 0])

    def add(self, raw: NDArray[np.floating[Any]]) -> None:
        """Count responses of raw features [M, d]."""
        rows = self._with_one(raw)
        self._sums = self._sums + rows.T @ rows

    def novelty(self, raw: NDArray[np.floating[Any]]) -> Array:
        """Return b of responses of raw features [..., d]: 1 / sqrt(lambda) of all of them before any was counted."""
        scale = self._scale()
        return inverse_root_count(self._with_one(raw) @ scale, scale.T @ self._sums @ scale, self._prior)

    def _scale(self) -> Array:
        """Return S with phi = (1, e) S, [1 + d, 1 + d]; a feature that does not vary is left out."""
        count, dim = self.count, len(self._sums) - 1
        scale = np.zeros_like(self._sums)
        scale[0, 0] = 1.0
        if count:
            mean = self._sums[0, 1:] / count
            square = np.diag(self._sums)[1:] / count
            deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
            varies = deviation > 1e-5 * np.sqrt(square) + 1e-12
            factor = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0) / np.sqrt(dim)
            scale[0, 1:] = -mean * factor
            scale[1:, 1:] = np.diag(factor)
        return scale

    @staticmethod
    def _with_one(raw: NDArray[np.floating[Any]]) -> Array:
        return np.concatenate([np.ones((*raw.shape[:-1], 1)), raw.astype(np.float64)], axis=-1)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {"sums": self._sums.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._sums = np.array(state["sums"])
