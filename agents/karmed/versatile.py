"""Versatile-DB (Saha and Gaillard 2022, arXiv 2202.06694, Algorithm 1): two Tsallis-INF players, best of both worlds.

Rule. Each player draws its arm from w = argmin <w, L> - (4 / eta_t) sum_i sqrt(w_i) over the simplex, that is
w_i = 4 / (eta_t (L_i - x))^2 with x such that the w_i sum to 1, and then estimates the loss of its arms (0 won, 1 lost)
with reduced variance (Zimmert and Seldin 2021, arXiv 1807.07623): B_i + 1(i played) (loss - B_i) / w_i with
B_i = 1/2 where w_i >= eta_t^2 and else 0, eta_t = 4 / sqrt(t).

A label that comes late is weighted by the w_i with which its arm was last drawn; where no label is late, that is the
w_i of the duel itself.

Settings. None, and no horizon. Guarantee. O(sqrt(K T)) against adversarial preferences and, at the same time,
O(sum_i ln T / gap_i) with a Condorcet winner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView

NEWTON_STEPS = 60
"""A bound that is never reached: the steps converge quadratically, from a start within a factor sqrt(K)."""

TOLERANCE = 1e-12


class Versatile(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
    """

    state = ("_losses", "_weights", "_drawn_with")

    def __init__(self, view: AgentView, seed: int, name: str) -> None:
        super().__init__(view, seed, name)
        shape = (2, self.replicates, self.num_arms)  # left player, right player
        self._losses: Array = np.zeros(shape)
        self._weights: Array = np.full(shape, 1.0 / self.num_arms)
        self._drawn_with: Array = self._weights.copy()  # each arm's weight when it was last drawn

    @property
    def _rate(self) -> float:
        return 4.0 / float(np.sqrt(max(self.round, 1)))

    def _choose(self) -> tuple[Arms, Arms]:
        rate = 4.0 / float(np.sqrt(self.round + 1))
        self._weights = tsallis_weights(self._losses, rate)
        uniforms = self.streams.uniform(2).T[:, :, np.newaxis]
        # The last sum is 1 only up to rounding, so it is not looked at.
        arms: Arms = (self._weights.cumsum(axis=2)[:, :, :-1] <= uniforms).sum(axis=2)
        places = arms[:, :, np.newaxis]
        np.put_along_axis(self._drawn_with, places, np.take_along_axis(self._weights, places, axis=2), axis=2)
        return arms[0], arms[1]

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        labelled = labels == labels
        rows = np.flatnonzero(labelled)
        baseline = np.where(self._weights >= self._rate**2, 0.5, 0.0)
        self._losses += baseline * labelled[:, np.newaxis]
        for player, arms, losses in ((0, first, 1.0 - labels), (1, second, labels)):
            arm = arms[rows]
            surprise = losses[rows] - baseline[player, rows, arm]
            self._losses[player, rows, arm] += surprise / self._drawn_with[player, rows, arm]


def tsallis_weights(losses: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return w_i = 4 / (rate (losses_i - x))^2 with x < min losses such that w sums to 1.

    Args:
        losses: L, [..., K].
        rate: eta, above 0.

    Returns:
        Weights of the same shape, exactly normalised.
    """
    scaled = 0.5 * rate * (losses - losses.min(axis=-1, keepdims=True))
    # w = (scaled + z)^-2 with z > 0; the sum is convex and falls in z. Newton from z = 1, where it is at least 1, to
    # the left of the root, climbs to it without overshooting; the root is at most sqrt(K).
    root = np.ones((*losses.shape[:-1], 1))
    for _ in range(NEWTON_STEPS):
        inverse = 1.0 / (scaled + root)
        excess = np.square(inverse).sum(axis=-1, keepdims=True) - 1.0
        going = excess > TOLERANCE
        if not going.any():
            break
        # A row that has arrived stays, whatever the others need: rows are independent to the last bit.
        root += going * excess / (2.0 * (inverse**3).sum(axis=-1, keepdims=True))
    weights = np.square(1.0 / (scaled + root))
    return weights / weights.sum(axis=-1, keepdims=True)


@register("versatile")
def versatile(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Versatile-DB agent."""
    return Versatile(view, seed, "versatile")
