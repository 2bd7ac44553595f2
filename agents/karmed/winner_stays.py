"""Winner Stays (Chen and Frazier 2017, Dueling Bandits with Weak Regret, arXiv 1706.04304): the winner meets the next.

Rule. An arm's score is its wins minus its losses. The two arms with the largest scores duel; of equals those of the
last duel come first, the first arm before the second, and then any. The winner of a duel therefore stays and the loser
is replaced; round l of the tournament ends when one arm has (K - 1) l and all others -l.

`regret="weak"` (WS-W) goes on like this for ever: it shows the best arm, but always against another. `"strong"` (WS-S)
plays the winner of round l against itself for floor(beta^l) duels before round l + 1.

Settings. regret; beta > 1, which must not exceed the odds with which the best arm wins round l, or exploitation outruns
certainty. Guarantee. WS-W: weak regret constant in T, O(K^2), O(K ln K) with a total order. WS-S: strong regret
O(K^2 + K ln T).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView
from duelenv.ground import checks
from duelenv.ground.errors import UserError

NOTIONS = ("strong", "weak")


@dataclass(frozen=True)
class WinnerStaysSettings:
    """What the tournament is for.

    Attributes:
        regret: "strong" or "weak".
        beta: Growth of the exploitation phases under "strong", above 1.
    """

    regret: str = "strong"
    beta: float = 1.1

    def __post_init__(self) -> None:
        checks.one_of("regret", self.regret, NOTIONS)
        if checks.number("beta", self.beta) <= 1.0:
            raise UserError(f"beta is {self.beta}, expected more than 1; the paper runs 1.1")


class WinnerStays(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: What the tournament is for.
    """

    state = ("_score", "_first", "_second", "_level", "_exploit")

    def __init__(self, view: AgentView, seed: int, name: str, settings: WinnerStaysSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        self._score: Array = np.zeros((self.replicates, self.num_arms))
        self._first: Arms = np.zeros(self.replicates, np.int64)
        self._second: Arms = np.ones(self.replicates, np.int64)
        self._level: Arms = np.ones(self.replicates, np.int64)  # the tournament's round l
        self._exploit: Array = np.zeros(self.replicates)  # duels of the winner with itself that are left

    def _choose(self) -> tuple[Arms, Arms]:
        rows = np.arange(self.replicates)
        # Scores are multiples of 1/2 or of what labels are; the last duel's arms win ties only.
        preferred = self._score.copy()
        preferred[rows, self._second] += 1e-9
        preferred[rows, self._first] += 2e-9
        first = preferred.argmax(axis=1)
        preferred[rows, first] = -np.inf
        second = preferred.argmax(axis=1)
        exploiting = self._exploit > 0
        self._exploit[exploiting] -= 1.0
        self._first = np.where(exploiting, self._first, first)
        self._second = np.where(exploiting, self._second, second)
        return np.where(exploiting, self._best(), first), np.where(exploiting, self._best(), second)

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = counted.replicates
        margin = 2.0 * labels[rows] - 1.0
        self._score[rows, counted.first] += margin
        self._score[rows, counted.second] -= margin
        if self.settings.regret == "weak":
            return
        top = self._score[rows, self._score[rows].argmax(axis=1)]
        over = rows[top >= (self.num_arms - 1) * self._level[rows] - 1e-6]
        self._exploit[over] = np.floor(self.settings.beta ** self._level[over])
        self._level[over] += 1

    def _best(self) -> Arms:
        """Return the arm with the largest score."""
        return self._score.argmax(axis=1)


@register("winner_stays")
def winner_stays(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Winner Stays agent."""
    return WinnerStays(view, seed, "winner_stays", settings.take(WinnerStaysSettings))
