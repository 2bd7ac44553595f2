"""Relative minimum empirical divergence, RMED (Komiyama, Honda, Kashima and Nakagawa 2015, arXiv 1506.02550).

Rule (Algorithms 1 to 3). With p_ij the empirical chance of i over j in N_ij duels, O_i = {j : p_ij <= 1/2} the arms
that look at least as good as i, and d the Bernoulli divergence in nats, the index of arm i is

    I_i = sum_{j in O_i} N_ij d(p_ij, 1/2);

exp(-I_i) is the likelihood that i is the Condorcet winner. After an initial phase arms are worked through in passes:
the next pass holds every arm that is done with this one and then has I_i - min I <= ln t + f(K), f(K) = 0.3 K^1.01,
in some round of it, that round's label included. Arm l of a pass meets

- `rmed1`: the arm b with the smallest index where b is in O_l, or O_l is empty; else argmin_j p_lj, and of equals the
  one with the smaller index;
- `rmed2`: the opponent that tells most per regret, argmin_j (D_bl + D_bj) / d(p_lj, 1/2) over p_lj < 1/2, where
  D_bj = p_bj - 1/2, as long as N_lb is not left behind it by more than a factor ln ln t; else as rmed1;
- `rmed2fh`: as rmed2, with these opponents fixed once, at the end of the initial phase.

The initial phase of rmed1 plays every pair once; that of rmed2 keeps every pair at alpha ln ln t duels, and that of
rmed2fh reaches alpha ln ln T, T the horizon.

Settings. `f_scale` and `f_exponent` of f; alpha = 3. Guarantee. With a Condorcet winner rmed1 is optimal up to its
opponents and in many instances; rmed2 and rmed2fh meet the asymptotic lower bound, constant included
(`duelenv.bounds.komiyama_constant`).

How it is fast. A duel changes two entries of the divergences, so two rows of the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView
from duelenv.ground import checks

LEAST_LOG_LOG = 0.01
"""What stands for ln ln t at the first rounds, where it is negative or not defined."""


TIE = 1e-12
"""What the index is worth beside a chance: it decides between chances that are equal but for rounding."""


@dataclass(frozen=True)
class RMEDSettings:
    """How long an arm stays plausible.

    Attributes:
        f_scale: Scale of f(K) = f_scale K^f_exponent, at least 0.
        f_exponent: Its exponent.
    """

    f_scale: float = 0.3
    f_exponent: float = 1.01

    def __post_init__(self) -> None:
        checks.number("f_scale", self.f_scale, low=0.0)
        checks.number("f_exponent", self.f_exponent, low=0.0)


@dataclass(frozen=True)
class ExplorationSettings:
    """How long the initial phase of rmed2 and rmed2fh is.

    Attributes:
        alpha: Duels of every pair per ln ln of the round (rmed2) or of the horizon (rmed2fh), above 0.
    """

    alpha: float = 3.0

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, low=0.01)


class RMED1(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: f.
    """

    state: ClassVar[tuple[str, ...]] = ("_mean", "_divergence", "_index", "_remaining", "_next", "_left")

    def __init__(self, view: AgentView, seed: int, name: str, settings: RMEDSettings) -> None:
        super().__init__(view, seed, name)
        replicates, num_arms = self.replicates, self.num_arms
        self._slack = settings.f_scale * num_arms**settings.f_exponent
        shape = (replicates, num_arms, num_arms)
        self._mean: Array = np.full(shape, 0.5)  # p_ij
        self._mean[:, range(num_arms), range(num_arms)] = 1.0  # an arm is no opponent of its own
        self._divergence: Array = np.zeros(shape)  # N_ij d(p_ij, 1/2) where p_ij <= 1/2
        self._index: Array = np.zeros(shape[:2])  # I_i
        self._remaining: NDArray[np.bool_] = np.ones(shape[:2], np.bool_)  # of this pass
        self._next: NDArray[np.bool_] = np.zeros(shape[:2], np.bool_)  # the next pass
        self._left: Arms = np.full(replicates, num_arms)  # members of `_remaining`
        self._pairs = np.triu_indices(num_arms, 1)

    def _choose(self) -> tuple[Arms, Arms]:
        if self.round < len(self._pairs[0]):
            first, second = (np.full(self.replicates, arms[self.round]) for arms in self._pairs)
            return first, second
        best = self._index.argmin(axis=1)
        self._settle(best)
        arm = self._take_arm(self._replicate)
        return arm, self._opponent(arm, best)

    def _opponent(self, arm: Arms, best: Arms) -> Arms:
        """Return rmed1's opponent of each replicate's arm."""
        means = self._mean.reshape(-1, self.num_arms).take(self._offset + arm, axis=0)  # (R, K)
        strongest = (means + TIE * self._index).argmin(axis=1)
        flat, rows = means.reshape(-1), self._offset
        beaten = flat.take(rows + strongest) <= 0.5
        return np.where(beaten & (flat.take(rows + best) > 0.5), strongest, best)

    def _settle(self, best: Arms) -> None:
        """End the last round: put plausible arms into the next pass, and start that where the pass is over.

        Args:
            best: Arm with the smallest index, labels of the last round included.
        """
        lowest = self._index.reshape(-1).take(self._offset + best)
        ceiling = lowest + (np.log(max(self.duels - 1, 1)) + self._slack)
        self._next |= (self._index <= ceiling[:, np.newaxis]) & ~self._remaining
        over = np.flatnonzero(self._left == 0)
        if len(over):
            members = self._next[over]
            self._remaining[over] = members
            self._next[over] = False
            self._left[over] = np.count_nonzero(members, axis=1)

    def _take_arm(self, replicates: Arms) -> Arms:
        """Return the next arm of every replicate's pass, and take it out in those given."""
        arm = self._remaining.argmax(axis=1)
        self._remaining.reshape(-1)[self._offset[replicates] + arm[replicates]] = False
        self._left[replicates] -= 1
        return arm

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        forward, backward = counted.forward, counted.backward
        if not len(forward):
            return
        won, lost = self.counts.flat[forward], self.counts.flat[backward]
        played = won + lost
        mean, rival_mean = won / played, lost / played
        # N d(p, 1/2) = N ln 2 + w ln p + l ln(1 - p); rounding must not make it negative.
        evidence = played * np.log(2.0) + xlogy(won, mean) + xlogy(lost, rival_mean)
        np.maximum(evidence, 0.0, out=evidence)
        for positions, chance in ((forward, mean), (backward, rival_mean)):
            self._mean.reshape(-1)[positions] = chance
            self._divergence.reshape(-1)[positions] = np.where(chance <= 0.5, evidence, 0.0)
        offset = counted.replicates * self.num_arms
        changed = np.concatenate([offset + counted.first, offset + counted.second])
        rows = self._divergence.reshape(-1, self.num_arms).take(changed, axis=0)
        self._index.reshape(-1)[changed] = np.einsum("mk->m", rows)  # afresh: no drift of rounding


class RMED2(RMED1):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: f.
        exploration: Length of the initial phase.
        fixed_horizon: Fix the opponents after the initial phase, whose length comes from the horizon (rmed2fh).
    """

    state: ClassVar[tuple[str, ...]] = (*RMED1.state, "_played", "_fixed")

    def __init__(
        self,
        view: AgentView,
        seed: int,
        name: str,
        settings: RMEDSettings,
        exploration: ExplorationSettings,
        *,
        fixed_horizon: bool,
    ) -> None:
        super().__init__(view, seed, name, settings)
        self._alpha = exploration.alpha
        self._fixed_horizon = fixed_horizon
        self._played: Array = np.full((self.replicates, self.num_arms, self.num_arms), np.inf)
        self._played[:, self._pairs[0], self._pairs[1]] = 0.0  # each pair once; the rest never is the least
        self._fixed: Arms = np.full((self.replicates, self.num_arms), -1)  # rmed2fh's opponents
        self._every_replicate = np.arange(self.replicates)

    def _choose(self) -> tuple[Arms, Arms]:
        rows = self._every_replicate
        least = self._played.reshape(self.replicates, -1).argmin(axis=1)
        first, second = np.divmod(least, self.num_arms)
        log_log = _log_log(self.view.horizon if self._fixed_horizon else self.duels)
        fewest = self._played[rows, first, second]
        waiting = (fewest < self._alpha * log_log) | (fewest == 0.0)
        best = self._index.argmin(axis=1)
        self._settle(best)  # also where all wait: what a replicate does must not depend on the others
        if waiting.all():
            return first, second
        arm = self._take_arm(np.flatnonzero(~waiting))
        telling = self._telling_opponent(arm, best, waiting)
        chances = self._mean[rows, arm]  # (R, K)
        met_best = self._met(arm, best)
        keeps_up = met_best >= self._met(arm, telling) / _log_log(self.duels)
        chosen = (chances[rows, telling] <= 0.5) & keeps_up
        opponent = np.where(chosen, telling, self._opponent(arm, best))
        return np.where(waiting, first, arm), np.where(waiting, second, opponent)

    def _telling_opponent(self, arm: Arms, best: Arms, waiting: NDArray[np.bool_]) -> Arms:
        rows = self._every_replicate
        if not self._fixed_horizon:
            return self._least_regret(rows, arm, best)
        new = np.flatnonzero(~waiting & (self._fixed[:, 0] < 0))
        for each in range(self.num_arms if len(new) else 0):
            self._fixed[new, each] = self._least_regret(new, np.full(len(new), each), best[new])
        return self._fixed[rows, arm]  # -1 in the initial phase, where nobody reads it

    def _least_regret(self, replicates: Arms, arm: Arms, best: Arms) -> Arms:
        """Return argmin_j (D_bl + D_bj) / d(p_lj, 1/2) over p_lj < 1/2 for arm l, [M]; some arm if there is none."""
        rows = np.arange(len(replicates))
        chances = self._mean[replicates, arm]  # (M, K)
        gaps = self._mean[replicates, best] - 0.5
        gaps[rows, best] = 0.0
        divergence = np.log(2.0) + xlogy(chances, chances) + xlogy(1.0 - chances, 1.0 - chances)
        regret = np.maximum(gaps[rows, arm][:, np.newaxis] + gaps, 0.0)
        ratio = np.full_like(regret, np.inf)
        np.divide(regret, divergence, out=ratio, where=(chances < 0.5) & (divergence > 0.0))
        return ratio.argmin(axis=1)

    def _met(self, arm: Arms, other: Arms) -> Array:
        wins, rows = self.counts.wins, self._every_replicate
        return wins[rows, arm, other] + wins[rows, other, arm]

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        super()._learn(counted, first, second, labels)
        played = self.counts.flat[counted.forward] + self.counts.flat[counted.backward]
        upper = np.minimum(counted.first, counted.second) * self.num_arms
        upper += np.maximum(counted.first, counted.second)
        self._played.reshape(self.replicates, -1)[counted.replicates, upper] = played


def _log_log(t: int) -> float:
    return max(float(np.log(max(np.log(t), 1.0))), LEAST_LOG_LOG)


@register("rmed1")
def rmed1(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RMED1 agent."""
    return RMED1(view, seed, "rmed1", settings.take(RMEDSettings))


@register("rmed2")
def rmed2(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RMED2 agent."""
    f, exploration = settings.take(RMEDSettings), settings.take(ExplorationSettings)
    return RMED2(view, seed, "rmed2", f, exploration, fixed_horizon=False)


@register("rmed2fh")
def rmed2fh(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RMED2FH agent, RMED2 for a horizon that is known."""
    f, exploration = settings.take(RMEDSettings), settings.take(ExplorationSettings)
    return RMED2(view, seed, "rmed2fh", f, exploration, fixed_horizon=True)
