"""MultiSBM (Ailon, Karnin and Joachims 2014, arXiv 1405.3396, Algorithm 2): one bandit player per left arm.

Rule. The left arm is the last right arm. Each left arm has its own bandit player, which chooses the right arm and is
paid 1 when that won. A player that keeps choosing the best arm makes it the next left arm, and so the best arm comes to
play itself.

Settings. alpha of the UCB players, argmax mean + sqrt(alpha ln n / n_i), n the player's own plays, every arm once
first. Guarantee. O(K ln T + K ln K) in expectation for utilities with a linear link.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.karmed.sparring import UCBSettings
from duelenv.core import AgentView


class MultiSBM(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: The players' bonus.
    """

    state = ("_gains", "_played", "_left")

    def __init__(self, view: AgentView, seed: int, name: str, settings: UCBSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        shape = (self.replicates, self.num_arms, self.num_arms)
        self._gains: Array = np.zeros(shape)  # of the right arm [., ., j] in the hands of left arm [., i, .]
        self._played: Array = np.zeros(shape)
        self._left: Arms = np.zeros(self.replicates, np.int64)  # internal numbers are random: so is the first arm

    def _choose(self) -> tuple[Arms, Arms]:
        rows = np.arange(self.replicates)
        gains, played = self._gains[rows, self._left], self._played[rows, self._left]  # (R, K)
        plays = played.sum(axis=1, keepdims=True)
        bonus = self.settings.alpha * np.log(np.maximum(plays, 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            index = gains / played + np.sqrt(bonus / played)
        index[played == 0.0] = np.inf
        left = self._left
        self._left = index.argmax(axis=1)
        return left, self._left

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = np.flatnonzero(labels == labels)
        left, right = first[rows], second[rows]
        self._gains[rows, left, right] += 1.0 - labels[rows]
        self._played[rows, left, right] += 1.0


@register("multisbm")
def multisbm(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MultiSBM agent."""
    return MultiSBM(view, seed, "multisbm", settings.take(UCBSettings))
