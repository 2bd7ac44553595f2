"""The coin that turns a preference into a label. The only place where a label is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.randomness import RoundUniforms
from duelenv.oracles.base import Preferences

FEEDBACK = ("bernoulli", "argmax")


class Coins:
    """One coin for every row of every round, a pure function of (root, number of the round, row).

    A retry, a delay or another row therefore changes no label, and an answer that comes a week later is decided as it
    would have been at once.

    Args:
        root: The world's root.
        rows: Number of rows N.
        feedback: "bernoulli", or "argmax": the likelier one wins, whatever the coin.
    """

    def __init__(self, root: int, rows: int, feedback: str) -> None:
        self._uniforms = RoundUniforms(root, "coin", rows)
        self._argmax = feedback == "argmax"

    def of(self, number: int) -> NDArray[np.float64]:
        """Return the coins of a round, U[0, 1), float64 [N]."""
        return self._uniforms.at(number)

    def label(
        self, preferences: Preferences, coins: NDArray[np.float64], swapped: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Turn preferences into labels, float64 [M]; NaN where there is no preference.

        The coin u decides the duel of the lower with the higher index; read from the other side it is 1 - u, so that
        label(j, i) = 1 - label(i, j) under one coin.

        Args:
            preferences: Of M duels.
            coins: Their coins, [M].
            swapped: Whether the first index is the higher one, [M].
        """
        win, tie = preferences.win, preferences.tie
        lower_wins = np.where(swapped, 1.0 - win - tie, win)
        if self._argmax:
            label = np.sign(2.0 * lower_wins + tie - 1.0) * 0.5 + 0.5
        else:
            label = np.where(coins < lower_wins, 1.0, np.where(coins < lower_wins + tie, 0.5, 0.0))
            label[np.isnan(win)] = np.nan
        return np.where(swapped, 1.0 - label, label)
