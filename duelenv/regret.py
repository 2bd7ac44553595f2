"""Regret of a duel under the notions of the field, as pure functions; no state and no running sums.

Write g_a = P(a* beats a) - 1/2 for the gap of candidate a to the comparator a*, and u for utilities. For the duel
(a, b):

- `sum` = g_a + g_b, the probability regret of SEA (arXiv 2411.01493) and `average` = sum / 2;
- `strong` = max(g_a, g_b) and `weak` = min(g_a, g_b) (Yue et al. 2012, section 2);
- `utility` = u(a*) - (u(a) + u(b)) / 2, SEA's Bradley-Terry form.

`sum` and `utility` are different quantities, and papers mix them: a curve without its notion's name means nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.oracles.links import Link

Array = NDArray[np.float64]


def probability_regret(first_gap: Array, second_gap: Array) -> dict[str, Array]:
    """Return the four notions that follow from the gaps.

    Args:
        first_gap: P(comparator beats first) - 1/2, [N].
        second_gap: P(comparator beats second) - 1/2, [N].

    Returns:
        `average`, `sum`, `strong` and `weak`, float64 [N] each, in probability.
    """
    total = first_gap + second_gap
    return {
        "average": 0.5 * total,
        "sum": total,
        "strong": np.maximum(first_gap, second_gap),
        "weak": np.minimum(first_gap, second_gap),
    }


def utility_regret(best: Array, first: Array, second: Array) -> Array:
    """Return u(a*) - (u(a) + u(b)) / 2, float64 [N], in units of utility (nats of log-odds under a logistic link)."""
    return best - 0.5 * (first + second)


def duel_regret(link: Link, best: Array, first: Array, second: Array) -> dict[str, Array]:
    """Return every notion that utilities determine when P(a beats b) = link(u(a) - u(b)).

    Args:
        link: Increasing function with link(x) + link(-x) = 1, from utility differences to probabilities.
        best: Utility of the comparator, [N].
        first: Utilities of the first candidates, [N].
        second: Utilities of the second candidates, [N].

    Returns:
        `average`, `sum`, `strong`, `weak` and `utility`, float64 [N] each.
    """
    gaps = np.asarray(link(np.stack([best - first, best - second])), np.float64) - 0.5
    return probability_regret(gaps[0], gaps[1]) | {"utility": utility_regret(best, first, second)}


def score_regret(scores: Array, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """Return the regret of duels in an arm score that needs no Condorcet winner, such as Borda's or Copeland's.

    Args:
        scores: Score of each arm, [K]; larger is better.
        first: Arms, [N].
        second: Arms, [N].

    Returns:
        max(scores) - (scores[first] + scores[second]) / 2, float64 [N].
    """
    return utility_regret(scores.max(), scores[first], scores[second])
