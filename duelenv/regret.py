"""Regret of a duel under the notions of the field, as pure functions; no state and no running sums.

Write g_a = P(a* beats a) - 1/2 for the gap of candidate a to the comparator a*, and u for utilities. For the duel
(a, b):

- `sum` = g_a + g_b, the probability regret of SEA (arXiv 2411.01493) and `average` = sum / 2;
- `strong` = max(g_a, g_b) and `weak` = min(g_a, g_b) (Yue et al. 2012, section 2), so that strong + weak = sum;
- `utility` = u(a*) - (u(a) + u(b)) / 2, SEA's Bradley-Terry form;
- `borda` and `copeland`, the best score of an arm less the mean score of a and b;
- `von_neumann` = (P(w beats a) + P(w beats b) - 1) / 2, where P(w beats a) = sum_i w_i P(i beats a) and no arm beats
  the distribution w (Dudik et al. 2015, arXiv 1502.06362). It is `average` where there is a Condorcet winner.

`sum` and `utility` are different quantities, and papers mix them: a curve without its notion's name means nothing.
For a link F that is concave above 0, as all of `duelenv.oracles.links` are, average <= F'(0) utility; and where no
utility is more than D below the best, average >= utility (F(D) - 1/2) / D.

Each is the regret of a round. Summed over rounds whose truth moves, each against its own round's comparator, it is
dynamic regret; a recommended arm that duels itself has its simple regret.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError
from duelenv.oracles.links import Link
from duelenv.oracles.matrices import (
    ORDER_TOLERANCE,
    borda_scores,
    condorcet_winner,
    copeland_scores,
    von_neumann_winner,
)

Array = NDArray[np.float64]

_SATURATED = 40.0
"""At this utility difference every link is 1 in double precision."""
_HALVINGS = 64

_PROGRAMME_TOLERANCE = 1e-9
"""A loss against w below this is what the linear programme leaves of 0."""


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


def utility_from_gaps(link: Link, first_gap: Array, second_gap: Array) -> Array:
    """Return `utility` regret from the gaps, (F^-1(1/2 + g_a) + F^-1(1/2 + g_b)) / 2: the way back from `duel_regret`.

    Any link will do, because its inverse is found by bisection. Close to a gap of 1/2 many utilities have one gap in
    double precision; at 1/2 the result is infinite.

    Args:
        link: As in `duel_regret`.
        first_gap: P(comparator beats first) - 1/2, [N].
        second_gap: P(comparator beats second) - 1/2, [N].

    Returns:
        float64 [N], in units of utility.

    Raises:
        UserError: A gap outside [-1/2, 1/2].

    Example:
        >>> from duelenv.oracles.links import logistic
        >>> utility_from_gaps(logistic, np.array([0.0]), np.array([0.25])).round(6).tolist()  # ln 3 / 2
        [0.549306]
    """
    gaps = np.stack([first_gap, second_gap]).astype(np.float64)
    wrong = ~(np.abs(gaps) <= 0.5)  # True for NaN
    if wrong.any():
        raise UserError(f"a gap is {gaps[wrong][0]:g}, expected P - 1/2 in [-0.5, 0.5]; pass gaps, not probabilities")
    low, high = np.full_like(gaps, -_SATURATED), np.full_like(gaps, _SATURATED)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = np.asarray(link(middle), np.float64) - 0.5 < gaps
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    difference = np.where(np.abs(gaps) == 0.5, np.copysign(np.inf, gaps), 0.5 * (low + high))
    mean: Array = 0.5 * (difference[0] + difference[1])
    return mean


def arm_losses(matrix: Array) -> dict[str, Array]:
    """Return what each arm of a preference matrix loses; the regret of a duel is the mean of its two arms' losses.

    Args:
        matrix: P[i, j] = P(i beats j), [K, K], checked.

    Returns:
        Float64 [K] by name, nowhere negative, and exactly 0 where it is less than rounding. `borda` and `copeland`: the
        best score less the arm's. `von_neumann`: P(w beats the arm) - 1/2; where several distributions w are never
        beaten, against the one that `von_neumann_winner` finds. `condorcet`, the gaps, where there is a Condorcet
        winner.
    """
    scores = {"borda": borda_scores(matrix), "copeland": copeland_scores(matrix)}
    losses = {name: _without_rounding(score.max() - score, ORDER_TOLERANCE) for name, score in scores.items()}
    winner = condorcet_winner(matrix)
    if winner is not None:
        gaps = matrix[winner] - 0.5
        return losses | {"von_neumann": gaps, "condorcet": gaps}
    against_mixture = von_neumann_winner(matrix) @ matrix - 0.5
    return losses | {"von_neumann": _without_rounding(against_mixture, _PROGRAMME_TOLERANCE)}


def _without_rounding(losses: Array, tolerance: float) -> Array:
    """Return the losses with 0 for those below the tolerance: sums of rounding would pass for regret."""
    return np.where(losses < tolerance, 0.0, losses)


def mean_loss(losses: Array, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """Return the regret of duels between arms with these losses, (l[a] + l[b]) / 2.

    Args:
        losses: Loss of each arm, [K].
        first: Arms, [N].
        second: Arms, [N].

    Returns:
        Float64 [N].
    """
    return 0.5 * (losses[first] + losses[second])
