"""Several votes on a duel, counted: the probability of what comes out, exactly. Nobody is asked here."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from duelenv.oracles.base import Preferences

MOST_VOTES = 7
"""All 3^votes outcomes are gone through."""

_CLOSE = 1e-9
"""Weights are logarithms: sums that differ by less than this are equal."""


def counted(win: NDArray[np.float64], tie: NDArray[np.float64], weights: NDArray[np.float64]) -> Preferences:
    """Count what independent votes come to.

    The sign of the sum of weights, + for the first and - for the second; a declared tie, or somebody who declines,
    weighs nothing. A sum of 0 is a tie.

    Args:
        win: Probability of each vote for the first response, float64 [N, V]; NaN where one declines.
        tie: Probability of each vote for a tie, float64 [N, V].
        weights: Of each vote, float64 [N, V].

    Returns:
        Of N duels; NaN where all decline.
    """
    declined = np.isnan(win)
    # A vote that declines is a tie for sure, to everybody who counts.
    chances = np.stack(
        [
            np.where(declined, 0.0, np.maximum(1.0 - win - tie, 0.0)),
            np.where(declined, 1.0, tie),
            np.where(declined, 0.0, win),
        ]
    )  # of the votes -1, 0 and 1: [3, N, V]
    outcomes = np.array(list(product((-1, 0, 1), repeat=win.shape[1])))  # [3^V, V]
    chance = np.ones((len(win), len(outcomes)))
    for place, votes in enumerate(outcomes.T):
        chance *= chances[votes + 1, :, place].T
    score = weights @ outcomes.T
    nobody = declined.all(axis=1)
    return Preferences(
        np.where(nobody, np.nan, (chance * (score > _CLOSE)).sum(axis=1)),
        np.where(nobody, 0.0, (chance * (np.abs(score) <= _CLOSE)).sum(axis=1)),
    )


def log_odds_of(ability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weigh votes so that they are most often right: log(a / (1 - a)) (Nitzan and Paroush 1982, theorem 1).

    The same as the posterior of a Dawid-Skene model with one ability for each annotator, where abilities are known.
    Somebody who is wrong more often than right weighs less than nothing.
    """
    clipped = np.clip(ability, 1e-6, 1.0 - 1e-6)
    weights: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return weights
