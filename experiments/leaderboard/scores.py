"""Scores of agents in the worlds of a group, and what many of them say: ranks, interquartile means, intervals.

After Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (arXiv 2108.13264):
the interquartile mean over all runs, and a stratified bootstrap, in which the seeds of each world are drawn by
themselves. Quantiles are those of `duelenv.experiments.tables.statistics.bootstrap_tail`, moved outwards for few seeds;
those of the paper are its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.tables.statistics import bootstrap_tail

__all__ = ["DRAWS", "Estimate", "Scale", "interquartile_mean", "iqm_interval", "mean_ranks", "ranks"]

Array = NDArray[np.float64]

#: Of the bootstrap.
DRAWS: Final = 2_000
#: Draws of ranks that are held at a time, so that many agents fit in memory.
_BLOCK: Final = 500


@dataclass(frozen=True)
class Estimate:
    """A figure and the bootstrap interval of 95 % around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scale:
    """What a figure is measured by in a world: `floor` scores 0 and `ceiling` 1; which way is better follows from them.

    Both are taken for known: that a measured one would differ with other seeds is in no interval.
    """

    floor: float
    ceiling: float

    @property
    def usable(self) -> bool:
        """Whether the two differ, so that there is a scale."""
        return bool(np.isfinite(self.floor) and np.isfinite(self.ceiling) and self.floor != self.ceiling)

    def scores(self, values: Sequence[float] | Array) -> Array:
        """Make (value - floor) / (ceiling - floor) of every value, as shaped; below 0 and above 1 where they are."""
        return np.asarray((np.asarray(values, dtype=np.float64) - self.floor) / (self.ceiling - self.floor))


def interquartile_mean(scores: Array) -> float:
    """Average the middle half of all runs.

    Args:
        scores: Of an agent, [W, S]: worlds by seeds, as many in each.

    Returns:
        The mean without the quarter of runs that is lowest and the quarter that is highest, whatever their worlds; of a
        number of runs that 4 does not divide, without as many as are in a quarter.
    """
    from scipy import stats

    return float(stats.trim_mean(scores, 0.25, axis=None))


def iqm_interval(scores: Array, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Find the interquartile mean with its stratified bootstrap interval.

    Args:
        scores: Of an agent, [W, S], at least two seeds.
        draws: Of the bootstrap.
        seed: Of the resampling.
    """
    from scipy import stats

    worlds, seeds = scores.shape
    generator = np.random.default_rng(seed)
    # Each world's seeds by themselves, [D, W, S].
    chosen = generator.integers(seeds, size=(draws, worlds, seeds))
    drawn = np.take_along_axis(np.broadcast_to(scores, (draws, worlds, seeds)), chosen, axis=2)
    means = np.asarray(stats.trim_mean(drawn.reshape(draws, -1), 0.25, axis=1), dtype=np.float64)
    return _estimate(interquartile_mean(scores), means, seeds)


def ranks(means: Array) -> Array:
    """Rank agents in each world by their mean scores, 1 the best; equal ones share the mean of their ranks.

    Args:
        means: [..., W, A].
    """
    from scipy import stats

    return np.asarray(stats.rankdata(-means, axis=-1))


def mean_ranks(scores: Array, *, draws: int = DRAWS, seed: int = 0) -> list[Estimate]:
    """Find the mean over worlds of each agent's rank, with its stratified bootstrap interval.

    A seed means the same coins and contexts for every agent, so that in a draw all agents have the same seeds.

    Args:
        scores: Of all agents, [A, W, S].
        draws: Of the bootstrap.
        seed: Of the resampling.
    """
    agents, worlds, seeds = scores.shape
    generator = np.random.default_rng(seed)
    drawn = np.empty((draws, agents))
    for start in range(0, draws, _BLOCK):
        block = min(_BLOCK, draws - start)
        counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=(block, worlds)) / seeds
        means = np.einsum("dws,aws->dwa", counts, scores, optimize=True)
        # Equal scores stay equal: their sums may differ in the last digits.
        drawn[start : start + block] = ranks(means.round(12)).mean(axis=1)
    found = ranks(scores.mean(axis=2).T.round(12)).mean(axis=0)
    return [_estimate(float(found[agent]), drawn[:, agent], seeds) for agent in range(agents)]


def _estimate(value: float, drawn: Array, seeds: int) -> Estimate:
    tail = bootstrap_tail(seeds)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
