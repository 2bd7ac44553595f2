"""Beat the Mean (Yue and Joachims 2011, Algorithm 1): eliminate the arm that does worst against the others' mean.

Rule. The active arm with the fewest duels of its own meets a random other active arm, and the duel counts for the first
alone. With P_b the share that b won and n* the fewest duels of an active arm, the worst arm is eliminated once

    min_b P_b + c < max_b P_b - c,   c = width gamma^2 sqrt(ln(2 K T) / n*),

and its duels are struck from the others' counts. The last active arm plays itself.

Settings. gamma >= 1 says how far preferences may be from stochastically transitive (1: not at all), 1.2 in the
experiments. The paper's c has width 3, with which nothing is eliminated in 10^4 rounds; the default 1 is the tighter
interval of the field's simulations. T is the horizon. Guarantee (width 3). O(gamma^7 K ln T) under relaxed stochastic
transitivity and the stochastic triangle inequality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.selection import draw
from duelenv.core import AgentView
from duelenv.ground import checks


@dataclass(frozen=True)
class BeatTheMeanSettings:
    """How careful the elimination is.

    Attributes:
        gamma: Relaxation of stochastic transitivity, at least 1.
        width: Factor of the confidence interval, above 0; the paper's is 3.
    """

    gamma: float = 1.2
    width: float = 1.0

    def __post_init__(self) -> None:
        checks.number("gamma", self.gamma, low=1.0)
        checks.number("width", self.width, low=1e-3)


class BeatTheMean(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: How careful the elimination is.
    """

    state = ("_active", "_own_wins", "_own_duels", "_number")

    def __init__(self, view: AgentView, seed: int, name: str, settings: BeatTheMeanSettings) -> None:
        super().__init__(view, seed, name)
        log_term = np.log(2.0 * self.num_arms * view.horizon)
        self._radius = settings.width * settings.gamma**2 * float(np.sqrt(log_term))
        shape = (self.replicates, self.num_arms)
        self._active: NDArray[np.bool_] = np.ones(shape, np.bool_)
        self._number: Arms = np.full(self.replicates, self.num_arms)  # of active arms
        # Duels that counted for arm b as the first, by opponent.
        self._own_wins: Array = np.zeros((*shape, self.num_arms))
        self._own_duels: Array = np.zeros((*shape, self.num_arms))

    def _choose(self) -> tuple[Arms, Arms]:
        rows = np.arange(self.replicates)
        duels = np.where(self._active, self._own_duels.sum(axis=2), np.inf)
        first = duels.argmin(axis=1)
        others = self._active.copy()
        others[rows, first] = self._number == 1  # the last arm meets itself
        return first, draw(others, self.streams.uniform())

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows, arms, rivals = counted.replicates, counted.first, counted.second
        self._own_wins[rows, arms, rivals] += labels[rows]
        self._own_duels[rows, arms, rivals] += 1.0
        if not len(rows):
            return
        active = self._active[rows]
        wins, duels = self._own_wins[rows].sum(axis=2), self._own_duels[rows].sum(axis=2)
        share = np.divide(wins, duels, out=np.full_like(wins, 0.5), where=duels > 0)
        fewest = np.where(active, duels, np.inf).min(axis=1)
        radius = np.divide(self._radius, np.sqrt(fewest), out=np.ones_like(fewest), where=fewest > 0)
        low, high = np.where(active, share, np.inf), np.where(active, share, -np.inf)
        worst = low.argmin(axis=1)
        out = low.min(axis=1) + radius < high.max(axis=1) - radius
        losers, loser = rows[out], worst[out]
        self._active[losers, loser] = False
        self._number[losers] -= 1
        self._own_wins[losers, :, loser] = 0.0
        self._own_duels[losers, :, loser] = 0.0

    def _best(self) -> Arms:
        """Return the active arm with the largest share of its own duels won."""
        wins, duels = self._own_wins.sum(axis=2), self._own_duels.sum(axis=2)
        share = np.divide(wins, duels, out=np.full_like(wins, 0.5), where=duels > 0)
        return np.where(self._active, share, -np.inf).argmax(axis=1)


@register("btm")
def btm(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Beat-the-Mean agent."""
    return BeatTheMean(view, seed, "btm", settings.take(BeatTheMeanSettings))
