"""Relative upper confidence bound, RUCB (Zoghi, Whiteson, Munos and de Rijke 2014, arXiv 1312.3393, Algorithm 1).

Rule. With the empirical p_ij of N_ij duels let u_ij = p_ij + sqrt(alpha ln t / N_ij), 1 where the pair never met, and
u_ii = 1/2. An arm that may still beat every other, u_cj >= 1/2 for all j, is a candidate. The champion is a candidate:
the only one where there is one, which is then remembered as the favourite; otherwise the favourite with probability
1/2 while it is a candidate, and else a random one (any arm if there is none). Its challenger is the arm with the
largest chance against it, argmax_j u_jc, of equals a random one; it is the champion itself once nobody can beat it.

Settings. alpha > 1/2. With `informed` (the default) two choices that the paper leaves to chance follow the arms'
points, the number of arms that an arm leads in their duels less those that it trails. Bounds are cut at 1, as they
bound probabilities, and rivals that tie there are taken by points; and while there is no favourite, the candidate with
the most points becomes it. Both concern the first rounds, before any arm is known, and save a quarter of the regret
and more. `informed=False` is the paper to the letter. Guarantee. With a Condorcet winner, regret O(K^2 + K log T) in
expectation for alpha > 1; the authors run 0.51.

How it is fast. u_cj >= 1/2 says N_cj max(0, 1/2 - p_cj)^2 <= alpha ln t. The left side changes for two entries per
duel; each arm's largest one is kept, so that candidates cost one comparison per arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import BoundSettings, KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.selection import draw, random_argmax
from duelenv.core import AgentView
from duelenv.ground import checks

TIE = 1e-12
"""What a point is worth in a bound: it decides between bounds that are equal but for rounding."""


@dataclass(frozen=True)
class RUCBSettings(BoundSettings):
    """How wide the bounds are, and who decides among equals.

    Attributes:
        alpha: Factor of ln t in the bounds, above 1/2.
        informed: Let the empirical points decide ties for the challenger and name the first favourite.
    """

    informed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.flag("informed", self.informed)


class RUCB(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: The width of the bounds.
    """

    simultaneous = True
    state = ("_rival_mean", "_inverse_root", "_margin", "_worst_margin", "_favourite", "_lead", "_points")

    def __init__(self, view: AgentView, seed: int, name: str, settings: RUCBSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        shape = (self.replicates, self.num_arms, self.num_arms)
        # Entry [c, j] belongs to j's chance against c, so that one champion's rivals lie side by side.
        self._rival_mean: Array = np.ones(shape)
        self._rival_mean[:, range(self.num_arms), range(self.num_arms)] = 0.5
        self._inverse_root: Array = np.zeros(shape)  # 1 / sqrt(N), 0 for unplayed pairs
        self._margin: Array = np.zeros(shape)  # N_cj max(0, 1/2 - p_cj)^2
        self._worst_margin: Array = np.zeros(shape[:2])
        self._favourite: Arms = np.full(self.replicates, -1)
        self._lead: Array = np.zeros(shape)  # sign of the wins of i over j less those of j over i
        self._points: Array = np.zeros(shape[:2])  # its sum over j
        self._ones = np.ones(self.num_arms, np.float32)
        self._every_replicate = np.arange(self.replicates)

    def _choose(self) -> tuple[Arms, Arms]:
        bonus = self.settings.alpha * np.log(self.duels)
        candidates = self._worst_margin <= bonus  # (R, K)
        number = candidates.astype(np.float32) @ self._ones  # sums rows three times as fast as sum does
        some = candidates.argmax(axis=1)
        remembered = candidates[self._every_replicate, self._favourite] & (self._favourite >= 0)
        self._favourite = np.where(number == 1, some, np.where(remembered, self._favourite, -1))

        champion = self._by_row(some).copy()
        uniforms = self.streams.uniform()
        open_rows = np.flatnonzero(self._by_row(number) != 1)
        if len(open_rows):
            replicates, draws = self._replicate[open_rows], uniforms[open_rows]
            sets, favourite = candidates[replicates], self._favourite[replicates]
            none = number[replicates] == 0
            if self.settings.informed:
                points = np.where(sets, self._points[replicates], -np.inf)
                favourite = np.where(~none & (favourite < 0), points.argmax(axis=1), favourite)
                self._favourite[replicates] = favourite
            sets[none] = True
            has = np.flatnonzero(favourite >= 0)
            sets[has, favourite[has]] = False  # the others share the second half of its uniform
            chosen = draw(sets, np.where(favourite >= 0, 2.0 * draws - 1.0, draws))
            champion[open_rows] = np.where((favourite >= 0) & (draws < 0.5), favourite, chosen)

        rows = self._offset + champion
        by_arm = (-1, self.num_arms)
        bounds = self._inverse_root.reshape(by_arm).take(rows, axis=0)
        bounds *= np.sqrt(bonus)
        bounds += self._rival_mean.reshape(by_arm).take(rows, axis=0)
        if self.settings.informed:
            np.minimum(bounds, 1.0, out=bounds)
            bounds += TIE * self._by_row(self._points)
            return champion, bounds.argmax(axis=1)
        return champion, random_argmax(bounds, self.streams.uniform(1)[:, 0])

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        forward, backward = counted.forward, counted.backward
        if not len(forward):
            return
        won, lost = self.counts.flat[forward], self.counts.flat[backward]
        played = won + lost
        mean, rival_mean = won / played, lost / played
        inverse_root = 1.0 / np.sqrt(played)
        for positions, chance, rival in (
            (forward, mean, rival_mean),
            (backward, rival_mean, mean),
        ):
            self._rival_mean.reshape(-1)[positions] = rival
            self._inverse_root.reshape(-1)[positions] = inverse_root
            self._margin.reshape(-1)[positions] = played * np.maximum(0.5 - chance, 0.0) ** 2
            self._lead.reshape(-1)[positions] = np.sign(chance - 0.5)
        offset = counted.replicates * self.num_arms
        changed = np.concatenate([offset + counted.first, offset + counted.second])
        margins = self._margin.reshape(-1, self.num_arms).take(changed, axis=0)
        worst = margins.argmax(axis=1)  # and taking it: four times as fast as max over a short axis
        worst_margin = margins.reshape(-1).take(np.arange(len(worst)) * self.num_arms + worst)
        self._worst_margin.reshape(-1)[changed] = worst_margin
        points = np.einsum("mk->m", self._lead.reshape(-1, self.num_arms).take(changed, axis=0))
        self._points.reshape(-1)[changed] = points


@register("rucb")
def rucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RUCB agent."""
    return RUCB(view, seed, "rucb", settings.take(RUCBSettings))
