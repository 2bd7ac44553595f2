"""Interleaved Filter (Yue, Broder, Kleinberg and Joachims 2012, Algorithm 2): a champion against everyone in turn.

Rule. The champion meets every other active arm once per sweep. After a sweep, with p_b its empirical chance over b in
n_b duels and c_b = sqrt(4 ln(K^2 T) / n_b): arms with p_b - c_b > 1/2 are eliminated. If one has p_b + c_b < 1/2, it
becomes the champion (of several the one with the smallest p_b); the old one is eliminated, and with it every arm that
it had beaten empirically (p_b > 1/2), for the new champion is better still. The last active arm plays itself.

Settings. None; T is the horizon. Guarantee. O(K ln T) in expectation under strong stochastic transitivity and the
stochastic triangle inequality; without them the inferred eliminations may lose the best arm for good.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView


class InterleavedFilter(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
    """

    state = ("_active", "_sweep", "_champion")

    def __init__(self, view: AgentView, seed: int, name: str) -> None:
        super().__init__(view, seed, name)
        self._log_term = 4.0 * float(np.log(float(self.num_arms) ** 2 * view.horizon))
        shape = (self.replicates, self.num_arms)
        self._champion: Arms = np.zeros(self.replicates, np.int64)  # internal numbers are random: so is it
        self._active: NDArray[np.bool_] = np.ones(shape, np.bool_)  # rivals of the champion
        self._active[:, 0] = False
        self._sweep = self._active.copy()  # rivals that the sweep has yet to meet

    def _choose(self) -> tuple[Arms, Arms]:
        waiting = self._sweep.any(axis=1)
        return self._champion, np.where(waiting, self._sweep.argmax(axis=1), self._champion)

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = counted.replicates
        champion = self._champion[rows]
        rivals = np.where(counted.first == champion, counted.second, counted.first)
        met = (counted.first == champion) | (counted.second == champion)
        rows, rivals = rows[met], rivals[met]
        self._sweep[rows, rivals] = False
        over = rows[~self._sweep[rows].any(axis=1)]
        if len(over):
            self._filter(over)

    def _filter(self, rows: Arms) -> None:
        """Eliminate after a sweep of the replicates `rows`."""
        champion, wins = self._champion[rows], self.counts.wins
        won, lost = wins[rows, champion], wins[rows, :, champion]  # (M, K)
        duels = won + lost
        mean = np.divide(won, duels, out=np.full_like(won, 0.5), where=duels > 0)
        radius = np.full_like(won, np.inf)
        np.divide(self._log_term, duels, out=radius, where=duels > 0)
        radius = np.sqrt(radius)
        active = self._active[rows]
        better = active & (mean + radius < 0.5)
        active &= mean - radius <= 0.5
        replaced = np.count_nonzero(better, axis=1) > 0
        successor = np.where(better, mean, np.inf).argmin(axis=1)
        active &= ~(replaced[:, np.newaxis] & (mean > 0.5))
        # The old champion was no rival of itself, and the new one is none either.
        changed = np.flatnonzero(replaced)
        active[changed, successor[changed]] = False
        self._champion[rows] = np.where(replaced, successor, champion)
        self._active[rows] = active
        self._sweep[rows] = active

    def _best(self) -> Arms:
        """Return the champion."""
        return self._champion


@register("interleaved_filter")
def interleaved_filter(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Interleaved Filter agent."""
    return InterleavedFilter(view, seed, "interleaved_filter")
