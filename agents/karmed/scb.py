"""Scalable Copeland bandits, SCB (Zoghi, Karnin, Whiteson and de Rijke 2015, arXiv 1506.00312, Algorithms 2 and 4).

Rule. Epoch r lasts T_r = 2^(2^r) duels and starts afresh with delta = ln(T_r) / T_r. In it the arms are a K-armed
bandit whose rewards are settled duels: a pull of arm i takes another arm j, lets the two duel until one is better with
confidence, N d(p_ij, 1/2) > ln(4 K n / delta) + 2 ln ln n for n the epoch's duels so far, and pays 1 if that is i.
Pairs settled before pay at once. The arms are pulled in turn; an arm is eliminated when the upper Kullback-Leibler
bound on its Copeland score falls below another's lower one. The last arm, or the best score once every pair of the
arms that are left is settled, plays itself for the rest of the epoch.

Settings. None. Guarantee. O(K ln K ln T) in the Copeland score, for few winners; no Condorcet winner is needed. The
first epochs are too short to settle anything, and the fourth has 65,536 duels: this is for many arms and long runs. A
pair that is nearly a tie holds everything up, and a tie does for the rest of the epoch; regret may then be as large as
that of random duels.

An arm's opponents are taken in turn and not drawn with replacement as in the paper; internal numbers being random, that
is a random order, with the same mean reward and less variance. The confidence terms are the authors' (their simulations
leave delta out, here it is in).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.core import AgentView

BISECTIONS = 40


class SCB(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
    """

    state = ("_wins", "_settled", "_left", "_pulls", "_rewards", "_arm", "_turn", "_duel", "_winner", "_epoch")

    def __init__(self, view: AgentView, seed: int, name: str) -> None:
        super().__init__(view, seed, name)
        replicates, num_arms = self.replicates, self.num_arms
        self._epoch = np.array([0, 0])  # its number, and the round at which it ends
        self._wins: Array = np.zeros((replicates, num_arms, num_arms))  # of this epoch
        # The settled winner's side holds 1, its loser's -1; the diagonal is settled with 0.
        self._settled: NDArray[np.int8] = np.zeros((replicates, num_arms, num_arms), np.int8)
        self._left: NDArray[np.bool_] = np.ones((replicates, num_arms), np.bool_)
        self._pulls: Array = np.zeros((replicates, num_arms))
        self._rewards: Array = np.zeros((replicates, num_arms))
        self._arm: Arms = np.zeros(replicates, np.int64)  # the arm being pulled
        self._turn: Arms = np.zeros((replicates, num_arms), np.int64)  # its place among its opponents
        self._duel: NDArray[np.bool_] = np.zeros(replicates, np.bool_)  # a pair is being settled
        self._winner: Arms = np.full(replicates, -1)

    def _choose(self) -> tuple[Arms, Arms]:
        if self.round >= self._epoch[1]:
            self._start_epoch()
        self._find_pairs(np.flatnonzero(~self._duel & (self._winner < 0)))
        first = np.where(self._winner < 0, self._arm, self._winner)
        second = np.where(self._winner < 0, self._opponent(np.arange(self.replicates)), self._winner)
        return first, second

    def _start_epoch(self) -> None:
        self._epoch[0] += 1
        self._epoch[1] = self.round + self._length
        for array in (self._wins, self._settled, self._pulls, self._rewards, self._arm, self._turn):
            array[...] = 0
        self._left[...] = True
        self._duel[...] = False
        self._winner[...] = -1

    def _opponent(self, rows: Arms) -> Arms:
        arm = self._arm[rows]
        return (arm + 1 + self._turn[rows, arm]) % self.num_arms

    def _find_pairs(self, rows: Arms) -> None:
        """Move replicates on to a pair that is not settled, or to their winner."""
        while len(rows):
            open_ = (self._settled[rows] == 0) & ~np.eye(self.num_arms, dtype=np.bool_)
            known = np.count_nonzero(open_ & self._left[rows, :, np.newaxis], axis=(1, 2)) == 0
            alone = np.count_nonzero(self._left[rows], axis=1) == 1
            over = known | alone
            scores = np.where(self._left[rows], (self._settled[rows] > 0).sum(axis=2), -1)
            done = rows[over]
            self._winner[done] = scores.argmax(axis=1)[over]
            rows = rows[~over]
            result = self._settled[rows, self._arm[rows], self._opponent(rows)]
            self._duel[rows[result == 0]] = True
            rows, result = rows[result != 0], result[result != 0]
            self._pay(rows, (result > 0).astype(np.float64))

    def _pay(self, rows: Arms, rewards: Array) -> None:
        """End the pull of replicates `rows`, and go to their next arm; after the last one, eliminate."""
        arm = self._arm[rows]
        self._pulls[rows, arm] += 1.0
        self._rewards[rows, arm] += rewards
        self._turn[rows, arm] = (self._turn[rows, arm] + 1) % (self.num_arms - 1)
        later = self._left[rows] & (np.arange(self.num_arms) > arm[:, np.newaxis])
        wrapped = np.count_nonzero(later, axis=1) == 0
        self._eliminate(rows[wrapped])
        following = np.where(wrapped[:, np.newaxis], self._left[rows], later)
        self._arm[rows] = following.argmax(axis=1)

    def _eliminate(self, rows: Arms) -> None:
        if not len(rows):
            return
        pulls = np.maximum(self._pulls[rows], 1.0)
        mean = self._rewards[rows] / pulls
        level = self._threshold(self._length) / pulls
        low, high = divergence_bounds(mean, level)
        left = self._left[rows]
        best = np.where(left, low, -1.0).max(axis=1, keepdims=True)
        self._left[rows] = left & (high >= best)

    @property
    def _length(self) -> int:
        return 2 ** (2 ** int(self._epoch[0]))  # exact: numpy's integers would overflow at the sixth epoch

    def _threshold(self, duels: int) -> float:
        """Return the evidence, in nats, that settles a pair after so many duels of the epoch."""
        delta = np.log(self._length) / self._length
        log_log = np.log(max(np.log(duels), 1.0))
        return float(np.log(4.0 * self.num_arms * duels / delta) + 2.0 * log_log)

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        rows = counted.replicates
        self._wins[rows, counted.first, counted.second] += labels[rows]
        self._wins[rows, counted.second, counted.first] += 1.0 - labels[rows]
        arm, rival = self._arm[rows], self._opponent(rows)
        current = (counted.first == arm) & (counted.second == rival)
        current |= (counted.first == rival) & (counted.second == arm)
        current &= self._duel[rows]  # others, labels that come late, only count
        rows, arm, rival = rows[current], arm[current], rival[current]
        won, lost = self._wins[rows, arm, rival], self._wins[rows, rival, arm]
        duels = won + lost
        evidence = duels * np.log(2.0) + xlogy(won, won / duels) + xlogy(lost, lost / duels)
        elapsed = self.round - (int(self._epoch[1]) - self._length)
        over = evidence > self._threshold(max(elapsed, 1))
        rows, arm, rival, better = rows[over], arm[over], rival[over], won[over] > lost[over]
        self._settled[rows, arm, rival] = np.where(better, 1, -1)
        self._settled[rows, rival, arm] = np.where(better, -1, 1)
        self._duel[rows] = False
        self._pay(rows, better.astype(np.float64))

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
    return SCB(view, seed, "scb")
