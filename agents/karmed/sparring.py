"""Sparring (Ailon, Karnin and Joachims 2014, arXiv 1405.3396, Algorithm 3): two bandit players choose one arm each.

Rule. The left and the right player are ordinary K-armed bandit algorithms; each is paid 1 when its arm won the duel and
0 when it lost (1/2 for a tie). Neither knows what the other played, so a player's rewards drift with its opponent.

Settings. `player="ucb"`: argmax mean_i + sqrt(alpha ln n / n_i) with alpha = 2.5, n the player's own plays, every arm
once first. `player="exp3"`: exponential weights over importance-weighted gains with learning rate
sqrt(2 ln K / (K T)), T the horizon, which is what theory asks for against a moving opponent. Guarantee. With "exp3",
O(sqrt(K T ln K)) against the von Neumann winner, even for adversarial preferences; none is proved for "ucb".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView
from duelenv.ground import checks

PLAYERS = ("ucb", "exp3")


@dataclass(frozen=True)
class SparringSettings:
    """Who plays.

    Attributes:
        player: "ucb" or "exp3".
    """

    player: str = "ucb"

    def __post_init__(self) -> None:
        checks.one_of("player", self.player, PLAYERS)


@dataclass(frozen=True)
class UCBSettings:
    """How optimistic a UCB player is.

    Attributes:
        alpha: Factor of ln n in the bonus, at least 0.
    """

    alpha: float = 2.5

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, low=0.0)


class UCBSparring(KArmedAgent):
    """Two UCB players; see the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: The players' bonus.
    """

    state = ("_gains", "_played")

    def __init__(self, view: AgentView, seed: int, name: str, settings: UCBSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        # Player, then replicate: left is 0. Unplayed arms count as 0 plays, and so go first.
        self._gains: Array = np.zeros((2, self.replicates, self.num_arms))
        self._played: Array = np.zeros((2, self.replicates, self.num_arms))

    def _choose(self) -> tuple[Arms, Arms]:
        plays = self._played[0].sum(axis=1, keepdims=True)  # the same for both players
        bonus = self.settings.alpha * np.log(np.maximum(plays, 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            index = self._gains / self._played + np.sqrt(bonus / self._played)
        index[self._played == 0.0] = np.inf
        # argmax takes the first of equals; the right player reads its arms backwards, or both would start with
        # duels of an arm with itself.
        right = self.num_arms - 1 - index[1][:, ::-1].argmax(axis=1)
        return index[0].argmax(axis=1), right

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = np.flatnonzero(labels == labels)
        for player, arms, gains in ((0, first, labels), (1, second, 1.0 - labels)):
            self._gains[player, rows, arms[rows]] += gains[rows]
            self._played[player, rows, arms[rows]] += 1.0


class Exp3Sparring(KArmedAgent):
    """Two Exp3 players; see the module.

    A label may come late, when its arm has all but lost its probability. It is therefore weighted by the probability
    with which its arm was last drawn, which is that of the duel itself where no label is late.
    """

    state = ("_gains", "_drawn_with")

    def __init__(self, view: AgentView, seed: int, name: str) -> None:
        super().__init__(view, seed, name)
        rate = 2.0 * np.log(self.num_arms) / (self.num_arms * view.horizon)
        self._rate = float(np.sqrt(rate))
        shape = (2, self.replicates, self.num_arms)
        self._gains: Array = np.zeros(shape)  # importance-weighted, summed
        self._drawn_with: Array = np.full(shape, 1.0 / self.num_arms)  # each arm's probability when last drawn

    def _choose(self) -> tuple[Arms, Arms]:
        weights = np.exp(self._rate * (self._gains - self._gains.max(axis=2, keepdims=True)))
        probability = weights / weights.sum(axis=2, keepdims=True)
        uniforms = self.streams.uniform(2).T[:, :, np.newaxis]
        arms: Arms = (probability.cumsum(axis=2)[:, :, :-1] <= uniforms).sum(axis=2)
        places = arms[:, :, np.newaxis]
        np.put_along_axis(self._drawn_with, places, np.take_along_axis(probability, places, axis=2), axis=2)
        return arms[0], arms[1]

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = np.flatnonzero(labels == labels)
        for player, arms, gains in ((0, first, labels), (1, second, 1.0 - labels)):
            arm = arms[rows]
            # Losses estimate better than gains: an arm that was not played seems to have won.
            loss = (1.0 - gains[rows]) / self._drawn_with[player, rows, arm]
            self._gains[player, rows, arm] -= loss


@register("sparring")
def sparring(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Sparring agent."""
    if settings.take(SparringSettings).player == "exp3":
        return Exp3Sparring(view, seed, "sparring")
    return UCBSparring(view, seed, "sparring", settings.take(UCBSettings))
