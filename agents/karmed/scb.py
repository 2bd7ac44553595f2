"""Scalable Copeland bandits, SCB (Zoghi, Karnin, Whiteson and de Rijke 2015, arXiv 1506.00312, Algorithms 2 and 4).

Rule. Epoch r lasts T_r = 2^(2^r) duels and starts afresh with delta = ln(T_r) / T_r. In it the arms are a K-armed
bandit whose rewards are settled duels: a pull of arm i takes another arm j, lets the two duel until one is better with
confidence, N d(p_ij, 1/2) > ln(4 K n / delta) + 2 ln ln n for n the epoch's duels so far, and pays 1 if that is i.
Pairs settled before pay at once. An arm is eliminated when the upper bound on its Copeland score falls below another's
lower one. The last arm, or the best score once every pair of the arms that are left is settled, plays itself for the
rest of the epoch.

An arm's opponents come in a random order, without replacement where the paper draws with it: the same mean reward and
less variance. The bounds on its score are the tighter of two: Kullback-Leibler bounds on the mean of its rewards
(Algorithm 4, whose confidence terms are the authors'), and what its settled pairs leave open, at least its wins and at
most all but its losses. The second adds no risk, as rewards are settled pairs too.

Settings. patience: the arms take turns, and a pull that is not settled after that many duels goes on in the arm's next
turn; None plays every pull to its end, as the paper does. There a pair that is nearly a tie holds everything up, a tie
does for the rest of the epoch, and regret may exceed that of random duels; with the default 1 the pulls run side by
side, and such a pair costs its share of the duels until its arms are out. Guarantee (patience None). O(K ln K ln
T) in the Copeland score, for few winners; no Condorcet winner is needed. The first epochs are too short to settle
anything, and the fourth has 65,536 duels: this is for many arms and long runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView
from duelenv.ground import checks

BISECTIONS = 40

SLACK = 1e-9
"""How far a score has to lie below another's before an arm is out: scores are quotients, equal but for rounding."""


@dataclass(frozen=True)
class SCBSettings:
    """How the arms share the duels.

    Attributes:
        patience: Duels of a pull in one turn of its arm, at least 1; None plays a pull until its pair is settled.
    """

    patience: int | None = 1

    def __post_init__(self) -> None:
        if self.patience is not None:
            checks.integer("patience", self.patience, low=1)


class SCB(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: How the arms share the duels.
    """

    state = (
        "_epoch",
        "_opponents",
        "_wins",
        "_settled",
        "_news",
        "_left",
        "_pulls",
        "_arm",
        "_begun",
        "_spent",
        "_winner",
    )

    def __init__(self, view: AgentView, seed: int, name: str, settings: SCBSettings) -> None:
        super().__init__(view, seed, name)
        self._patience = np.inf if settings.patience is None else settings.patience
        replicates, num_arms = self.replicates, self.num_arms
        self._epoch = np.array([0, 0])  # its number, and the round at which it ends
        # Of each arm, in the order of its pulls.
        self._opponents: Arms = np.zeros((replicates, num_arms, num_arms - 1), np.int64)
        self._wins: Array = np.zeros((replicates, num_arms, num_arms))  # of this epoch
        # The settled winner's side holds 1, its loser's -1, an open pair 0.
        self._settled: NDArray[np.int8] = np.zeros((replicates, num_arms, num_arms), np.int8)
        self._news: NDArray[np.bool_] = np.zeros(replicates, np.bool_)  # a pair was settled in the last round
        self._left: NDArray[np.bool_] = np.ones((replicates, num_arms), np.bool_)
        self._pulls: Arms = np.zeros((replicates, num_arms), np.int64)  # paid ones; the place of the next opponent
        self._arm: Arms = np.zeros(replicates, np.int64)  # the arm whose turn it is
        self._begun: Arms = np.zeros(replicates, np.int64)  # its paid pulls when its turn began
        self._spent: Arms = np.zeros(replicates, np.int64)  # duels of its turn
        self._winner: Arms = np.full(replicates, -1)

    def _choose(self) -> tuple[Arms, Arms]:
        if self.round >= self._epoch[1]:
            self._start_epoch()
        self._judge(np.flatnonzero(self._news))
        rows = np.flatnonzero(self._winner < 0)
        self._take_turns(rows)
        first, second = self._winner.copy(), self._winner.copy()
        arm = self._arm[rows]
        first[rows], second[rows] = arm, self._opponents[rows, arm, self._pulls[rows, arm]]
        return first, second

    def _start_epoch(self) -> None:
        self._epoch[0] += 1
        self._epoch[1] = self.round + self._length
        uniforms = self.streams.uniform(self.num_arms * (self.num_arms - 1))
        steps = uniforms.reshape(self._opponents.shape).argsort(axis=2) + 1
        self._opponents[...] = (np.arange(self.num_arms)[:, np.newaxis] + steps) % self.num_arms
        for array in (self._wins, self._settled, self._pulls, self._arm, self._begun, self._spent):
            array[...] = 0
        self._news[...] = False
        self._left[...] = True
        self._winner[...] = -1

    def _judge(self, rows: Arms) -> None:
        """Pay the pulls of replicates `rows`, in which pairs were settled, eliminate arms, and find winners."""
        self._news[rows] = False
        if not len(rows):
            return
        settled = self._settled[rows]  # (M, K, K)
        in_order = np.take_along_axis(settled, self._opponents[rows], axis=2)  # (M, K, K - 1)
        paid = np.logical_and.accumulate(in_order != 0, axis=2)
        pulls = np.count_nonzero(paid, axis=2)
        rewards = np.count_nonzero(paid & (in_order > 0), axis=2)
        won, lost = np.count_nonzero(settled > 0, axis=2), np.count_nonzero(settled < 0, axis=2)
        counted = np.maximum(pulls, 1)
        level = np.where(pulls > 0, self._threshold(self._length) / counted, np.inf)
        low, high = divergence_bounds(rewards / counted, level)
        low = np.maximum(low, won / (self.num_arms - 1))
        high = np.minimum(high, 1.0 - lost / (self.num_arms - 1))
        left = self._left[rows]
        left &= high >= np.where(left, low, -1.0).max(axis=1, keepdims=True) - SLACK
        known = (won + lost == self.num_arms - 1) | ~left
        over = known.all(axis=1) | (np.count_nonzero(left, axis=1) == 1)
        self._winner[rows[over]] = np.where(left, won, -1).argmax(axis=1)[over]
        self._left[rows] = left
        self._pulls[rows] = pulls

    def _take_turns(self, rows: Arms) -> None:
        """Let the arm whose turn it is in replicates `rows` go on, or the next one that has an open pair begin."""
        waiting = self._left[rows] & (self._pulls[rows] < self.num_arms - 1)  # (M, K); some arm does, or all were known
        arm = self._arm[rows]
        going = waiting[np.arange(len(rows)), arm] & (self._pulls[rows, arm] == self._begun[rows])
        going &= self._spent[rows] < self._patience
        later = waiting & (np.arange(self.num_arms) > arm[:, np.newaxis])
        following = np.where(later.any(axis=1), later.argmax(axis=1), waiting.argmax(axis=1))
        self._arm[rows] = np.where(going, arm, following)
        self._begun[rows] = self._pulls[rows, self._arm[rows]]
        self._spent[rows] = np.where(going, self._spent[rows], 0) + 1

    @property
    def _length(self) -> int:
        return 2 ** (2 ** int(self._epoch[0]))  # exact: numpy's integers would overflow at the sixth epoch

    def _threshold(self, duels: int) -> float:
        """Return the evidence, in nats, that settles a pair after so many duels of the epoch."""
        delta = np.log(self._length) / self._length
        log_log = np.log(max(np.log(duels), 1.0))
        return float(np.log(4.0 * self.num_arms * duels / delta) + 2.0 * log_log)

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows, arm, rival = counted.replicates, counted.first, counted.second
        self._wins[rows, arm, rival] += labels[rows]
        self._wins[rows, rival, arm] += 1.0 - labels[rows]
        won, lost = self._wins[rows, arm, rival], self._wins[rows, rival, arm]
        duels = won + lost
        evidence = duels * np.log(2.0) + xlogy(won, won / duels) + xlogy(lost, lost / duels)
        elapsed = self.round - (int(self._epoch[1]) - self._length)
        over = (evidence > self._threshold(max(elapsed, 1))) & (self._settled[rows, arm, rival] == 0)
        rows, arm, rival = rows[over], arm[over], rival[over]
        better = np.where(won[over] > lost[over], 1, -1)
        self._settled[rows, arm, rival] = better
        self._settled[rows, rival, arm] = -better
        self._news[rows] = True

    def _best(self) -> Arms:
        """Return the epoch's winner where it has one, else the leader of all counts."""
        return np.where(self._winner >= 0, self._winner, self.counts.leader())


def divergence_bounds(mean: Array, level: Array) -> tuple[Array, Array]:
    """Return the smallest and largest q in [0, 1] with d(mean, q) <= level, by bisection.

    Args:
        mean: Empirical means in [0, 1].
        level: Levels of the Bernoulli divergence in nats, of the same shape.
    """
    entropy = xlogy(mean, mean) + xlogy(1.0 - mean, 1.0 - mean)
    bounds = []
    for end in (0.0, 1.0):
        inside, outside = mean.copy(), np.full_like(mean, end)
        for _ in range(BISECTIONS):
            middle = 0.5 * (inside + outside)
            within = entropy - xlogy(mean, middle) - xlogy(1.0 - mean, 1.0 - middle) <= level
            inside = np.where(within, middle, inside)
            outside = np.where(within, outside, middle)
        bounds.append(outside)
    return bounds[0], bounds[1]


@register("scb")
def scb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the SCB agent."""
    return SCB(view, seed, "scb", settings.take(SCBSettings))
