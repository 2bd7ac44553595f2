"""How sure a belief about a utility is, against how wrong it is; knows neither agents nor worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy

#: A gap that a belief is surer of than this counts as known to this deviation.
_LEAST_DEVIATION: Final = 1e-3
#: Draws of a belief that are held against the truth.
_DRAWS: Final = 100
#: Candidates of a row whose pairs are compared: the first ones, as pairs grow with the square.
_MOST_CANDIDATES: Final = 32
#: Gaps that are in memory at a time.
_MOST_GAPS: Final = 2**22

_CERTAIN: Final = 1e-12


class Calibration(NamedTuple):
    """Of a belief about some candidates.

    Attributes:
        error: Root mean square of (believed gap - true gap) / deviation of the belief: 1 where the belief is as wrong
            as it says, above 1 where it is too sure.
        log_loss: What the belief's probabilities lose against the true ones, in nats a duel, at least 0.
    """

    error: float
    log_loss: float


class _Sums(NamedTuple):
    """Over the pairs of each row that count, float64 [N] each."""

    pairs: NDArray[np.float64]
    squares: NDArray[np.float64]
    losses: NDArray[np.float64]


def calibration(draws: NDArray[np.floating[Any]], utility: NDArray[np.float64]) -> Calibration:
    """Hold joint draws of a utility against the truth, over all pairs of candidates of a row.

    Args:
        draws: [S, N, K], S >= 2, in logits of a preference.
        utility: [N, K], likewise; K >= 2.

    Returns:
        Error and log-loss. Pairs of equal utility count too; those of one text, whose gap nobody doubts, do not.
    """
    pairs, squares, losses = (float(values.sum()) for values in _pair_sums(draws, utility))
    if not pairs:
        return Calibration(float("nan"), float("nan"))
    return Calibration((squares / pairs) ** 0.5, losses / pairs)


class BeliefCheck:
    """Holds what an agent believes about shown candidates against the truth, for each replicate.

    Args:
        agent: Anything; one that holds a belief says so by `believed(observation, num_samples)`, see
            `duelenv.agents.base.Agent.believed`.
        link: The probability of a preference, from a gap in utility.
        replicates: R.
    """

    def __init__(self, agent: object, link: Callable[..., Any], replicates: int = 1) -> None:
        self._draw = getattr(agent, "believed", None)
        self._link = link
        self._totals = np.zeros((3, replicates))
        self._held = False

    def add(
        self, observation: Mapping[str, Any], utility: NDArray[np.float64], counted: NDArray[np.bool_] | None = None
    ) -> bool:
        """Ask the agent about what a world shows.

        Args:
            observation: M rows, a multiple of the replicates, rows of a replicate adjacent.
            utility: The truth, [M, K].
            counted: Which rows count, [M]; None for all.

        Returns:
            Whether the agent holds a belief.
        """
        draws = None if self._draw is None else self._draw(observation, _DRAWS)
        if draws is None:
            return False
        self._held = True
        sums = np.stack(_pair_sums(draws[..., :_MOST_CANDIDATES], self._logits(utility[:, :_MOST_CANDIDATES])))
        if counted is not None:
            sums *= counted
        self._totals += sums.reshape(3, self._totals.shape[1], -1).sum(axis=2)
        return True

    def metrics(self, suffix: str = "") -> dict[str, NDArray[np.float64]]:
        """Return `belief_calibration` and `belief_log_loss`, see `Calibration`, float64 [R] each.

        Nothing where no belief is held; NaN where no pair counted.

        Args:
            suffix: Behind the names.
        """
        if not self._held:
            return {}
        pairs, squares, losses = self._totals
        with np.errstate(invalid="ignore"):
            error, log_loss = np.sqrt(squares / pairs), losses / pairs
        return {f"belief_calibration{suffix}": error, f"belief_log_loss{suffix}": log_loss}

    def _logits(self, utility: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return logits of a preference over each row's first candidate, [M, K].

        Their differences are the logits of all pairs where the link is logistic, and near them for the others.
        """
        share = np.asarray(self._link(utility - utility[:, :1]), np.float64)
        return np.asarray(logit(np.clip(share, _CERTAIN, 1.0 - _CERTAIN)), np.float64)


def _pair_sums(draws: NDArray[np.floating[Any]], utility: NDArray[np.float64]) -> _Sums:
    """Compare draws [S, N, K] with the truth [N, K] over each row's pairs, so many rows at a time as memory allows."""
    first, second = np.triu_indices(utility.shape[1], k=1)
    rows = max(1, _MOST_GAPS // (len(draws) * len(first)))
    parts = []
    for start in range(0, len(utility), rows):
        some, truth = draws[:, start : start + rows], utility[start : start + rows]
        gaps = some[..., first].astype(np.float64) - some[..., second]  # (S, N, P)
        true = truth[:, first] - truth[:, second]  # (N, P)
        deviation = gaps.std(axis=0, ddof=1)
        doubted = (deviation > 0.0) | (np.abs(true) > 0.0)
        off = (gaps.mean(axis=0) - true) / np.maximum(deviation, _LEAST_DEVIATION)
        p, believed = expit(true), np.clip(expit(gaps).mean(axis=0), _CERTAIN, 1.0 - _CERTAIN)
        loss = xlogy(p, p) - xlogy(p, believed) + xlogy(1.0 - p, 1.0 - p) - xlogy(1.0 - p, 1.0 - believed)
        parts.append(_Sums(*((values * doubted).sum(axis=1) for values in (np.ones_like(off), off**2, loss))))
    return _Sums(*(np.concatenate(values) for values in zip(*parts, strict=True)))
