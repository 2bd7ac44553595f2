"""What an adversary of labels knows and may spend; not what is done with it: see `corruption`, `adversarial_delay`.

The adversary is strong: it sees the true preference of every duel and its label before it acts, and knows nothing of
the future. It acts on labels that tell the truth, that is, that name the truly likelier winner: a label that is wrong
already hurts without help. Among those the surest duels hurt most, because under a logistic link the log-likelihood of
the true utility falls by |logit P| with a flip; `margin` keeps the budget for them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.labels.stage import Passing


def truthful(passing: Passing, least: float) -> NDArray[np.bool_]:
    """Tell which labels name the truly likelier winner of a duel with a margin of at least `least`, bool [M].

    Args:
        passing: The labels; ties name nobody, and a margin of 0 has no truth to tell.
        least: In [0, 1].
    """
    told: NDArray[np.bool_] = ((passing.label - 0.5) * passing.margin > 0.0) & (np.abs(passing.margin) >= least)
    return told


def surest(
    eligible: NDArray[np.bool_],
    margins: NDArray[np.float64],
    replicate: NDArray[np.int64],
    allowance: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Choose the eligible labels of the largest |margin|, at most `allowance` of each replicate, bool [M].

    Args:
        eligible: bool [M].
        margins: float64 [M].
        replicate: Replicate of each label, int64 [M].
        allowance: int64 [R].
    """
    candidates = np.flatnonzero(eligible)
    candidates = candidates[np.lexsort((-np.abs(margins[candidates]), replicate[candidates]))]
    owners = replicate[candidates]
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    chosen = np.zeros(len(eligible), np.bool_)
    chosen[candidates[rank < allowance[owners]]] = True
    return chosen
