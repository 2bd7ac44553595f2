"""Confidence bounds on all pairs at once, for the agents that read the whole matrix; no rule that reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.karmed.counts import Array, Counted, WinCounts


class PairBounds:
    """Bounds u_ij = p_ij + sqrt(alpha ln t / N_ij), l_ij = 1 - u_ji, u = 1 and l = 0 where the pair never met.

    What changes with t is one number, alpha ln t. Kept are N_ij max(0, 1/2 - p_ij)^2, which is above it just where
    u_ij < 1/2, and p_ij and 1 / sqrt(N_ij).

    Args:
        replicates: R.
        num_arms: K.

    Attributes:
        margin: N_ij max(0, 1/2 - p_ij)^2, [R, K, K]; 0 on the diagonal.
        mean: p_ij, [R, K, K]; 1 where the pair never met and 1/2 on the diagonal.
        inverse_root: 1 / sqrt(N_ij), [R, K, K]; 0 where the pair never met and on the diagonal.
    """

    def __init__(self, replicates: int, num_arms: int) -> None:
        shape = (replicates, num_arms, num_arms)
        self.margin: Array = np.zeros(shape)
        self.mean: Array = np.ones(shape)
        self.mean[:, range(num_arms), range(num_arms)] = 0.5
        self.inverse_root: Array = np.zeros(shape)

    def update(self, counts: WinCounts, counted: Counted) -> None:
        """Take in the pairs whose counts changed."""
        won, lost = counts.flat[counted.forward], counts.flat[counted.backward]
        played = won + lost
        inverse_root = 1.0 / np.sqrt(played)
        for positions, mean in ((counted.forward, won / played), (counted.backward, lost / played)):
            self.margin.reshape(-1)[positions] = played * np.maximum(0.5 - mean, 0.0) ** 2
            self.mean.reshape(-1)[positions] = mean
            self.inverse_root.reshape(-1)[positions] = inverse_root

    def loses(self, bonus: float) -> NDArray[np.bool_]:
        """Return where u_ij < 1/2, that is where l_ji > 1/2, bool [R, K, K].

        Args:
            bonus: alpha ln t.
        """
        return self.margin > bonus

    def upper_column(self, replicates: NDArray[np.int64], arms: NDArray[np.int64], bonus: float) -> Array:
        """Return u_ja for all j, the column of one arm a in each of M replicates, [M, K]."""
        column: Array = self.mean[replicates, :, arms]
        return column + np.sqrt(bonus) * self.inverse_root[replicates, :, arms]
