"""Counts of won duels between K fixed arms, for many replicates at once; no rule that reads them.

`wins[r, i, j]` is how often arm i beat arm j in replicate r. A declared tie is half a win for each side, a duel
without a label and a duel of an arm with itself count nowhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Arms = NDArray[np.int64]


class Counted(NamedTuple):
    """The M duels of a round that counted.

    Attributes:
        replicates: Replicate of each duel, int64 [M].
        first: Its first arm, int64 [M].
        second: Its second arm, int64 [M].
        forward: Position of (replicate, first, second) in a flattened [R, K, K] array.
        backward: Position of (replicate, second, first).
    """

    replicates: Arms
    first: Arms
    second: Arms
    forward: Arms
    backward: Arms


class WinCounts:
    """Win counts of R replicates of K arms.

    Args:
        replicates: R.
        num_arms: K.

    Attributes:
        wins: float64 [R, K, K]; the diagonal stays 0.
        flat: The same memory as one axis, for the positions in `Counted`.

    Example:
        >>> counts = WinCounts(replicates=1, num_arms=2)
        >>> counted = counts.add(np.array([0]), np.array([1]), np.array([0]), np.array([1.0]))
        >>> counts.wins[0].tolist()
        [[0.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, replicates: int, num_arms: int) -> None:
        self.num_arms = num_arms
        self.wins: Array = np.zeros((replicates, num_arms, num_arms))
        self.flat: Array = self.wins.reshape(-1)

    def add(self, replicates: Arms, first: Arms, second: Arms, labels: Array) -> Counted:
        """Count a round's duels; several may belong to one replicate, and to one pair.

        Args:
            replicates: Replicate of each duel, int64 [N].
            first: First arms, int64 [N].
            second: Second arms, int64 [N].
            labels: 1 where the first won, 0 where the second, 0.5 for a tie, NaN for no label, float64 [N].

        Returns:
            The duels that counted.
        """
        kept = np.flatnonzero((first != second) & (labels == labels))  # NaN differs from itself
        if len(kept) < len(first):
            replicates, first, second = replicates[kept], first[kept], second[kept]
            labels = labels[kept]
        forward = (replicates * self.num_arms + first) * self.num_arms + second
        backward = (replicates * self.num_arms + second) * self.num_arms + first
        np.add.at(self.flat, forward, labels)
        np.add.at(self.flat, backward, 1.0 - labels)
        return Counted(replicates, first, second, forward, backward)

    def leader(self) -> Arms:
        """Return the empirical Copeland winner of every replicate, int64 [R]; a Condorcet winner is one.

        A pair that never met, or stands level, gives half a point to both. Equal points are decided by the share of
        all duels won, and then by the lower index.
        """
        losses = self.wins.transpose(0, 2, 1)
        points = np.sign(self.wins - losses).sum(axis=2)
        won, played = self.wins.sum(axis=2), (self.wins + losses).sum(axis=2)
        share = np.divide(won, played, out=np.full_like(won, 0.5), where=played > 0)
        # Points are whole numbers and shares lie in [0, 1]: halving them keeps the order lexicographic.
        return (points + 0.5 * share).argmax(axis=1)
