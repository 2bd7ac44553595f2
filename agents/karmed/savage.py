"""SAVAGE for Condorcet winners (Urvoy, Clerot, Feraud and Naamane 2013, Algorithm 1): sample the least known pair.

Rule. Of the pairs of active arms the one with the fewest duels is next. An arm that is worse than some other arm with
confidence, p_ij + c_ij < 1/2 with c_ij = sqrt(ln(2 K T / delta) / (2 N_ij)), is no Condorcet winner and is eliminated.
The last active arm plays itself.

Settings. delta, the probability of losing the best arm; 1 / T by default, T the horizon. Guarantee. Explore, then
commit: with probability 1 - delta the best arm is found after O(K^2 ln(K T / delta)) duels; only a Condorcet winner
is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView
from duelenv.ground import checks
from duelenv.ground.errors import UserError


@dataclass(frozen=True)
class SavageSettings:
    """How sure an elimination is.

    Attributes:
        delta: Probability of eliminating the best arm, in (0, 1); None takes 1 / horizon.
    """

    delta: float | None = None

    def __post_init__(self) -> None:
        if self.delta is not None and not 0.0 < checks.number("delta", self.delta) < 1.0:
            raise UserError(f"delta is {self.delta}, expected a probability in (0, 1); change delta")


class Savage(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: How sure an elimination is.
    """

    state = ("_played", "_active")

    def __init__(self, view: AgentView, seed: int, name: str, settings: SavageSettings) -> None:
        super().__init__(view, seed, name)
        delta = 1.0 / view.horizon if settings.delta is None else settings.delta
        self._log_term = 0.5 * float(np.log(2.0 * self.num_arms * view.horizon / delta))
        shape = (self.replicates, self.num_arms, self.num_arms)
        self._played: Array = np.full(shape, np.inf)  # infinite where a pair is none or is done with
        self._played[:, *np.triu_indices(self.num_arms, 1)] = 0.0
        self._active: NDArray[np.bool_] = np.ones(shape[:2], np.bool_)

    def _choose(self) -> tuple[Arms, Arms]:
        flat = self._played.reshape(self.replicates, -1)
        least = flat.argmin(axis=1)
        first, second = np.divmod(least, self.num_arms)
        done = np.isinf(flat[np.arange(self.replicates), least])
        winner = self._active.argmax(axis=1)
        return np.where(done, winner, first), np.where(done, winner, second)

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        won, lost = self.counts.flat[counted.forward], self.counts.flat[counted.backward]
        played = won + lost
        low = np.minimum(counted.first, counted.second)
        high = np.maximum(counted.first, counted.second)
        open_ = np.isfinite(self._played[counted.replicates, low, high])
        self._played[counted.replicates[open_], low[open_], high[open_]] = played[open_]
        out = np.abs(won - lost) / (2.0 * played) > np.sqrt(self._log_term / played)
        loser = np.where(won < lost, counted.first, counted.second)[out]
        rows = counted.replicates[out]
        self._active[rows, loser] = False
        self._played[rows, loser, :] = np.inf
        self._played[rows, :, loser] = np.inf

    def _best(self) -> Arms:
        """Return the last active arm, or while there are several the active one that leads the counts."""
        leader = self.counts.leader()
        rows = np.arange(self.replicates)
        return np.where(self._active[rows, leader], leader, self._active.argmax(axis=1))


@register("savage")
def savage(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the SAVAGE agent."""
    return Savage(view, seed, "savage", settings.take(SavageSettings))
