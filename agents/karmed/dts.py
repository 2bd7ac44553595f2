"""Double Thompson sampling, D-TS and D-TS+ (Wu and Liu 2016, arXiv 1604.07101, Algorithm 1 and section 5).

Rule. With confidence bounds u_ij, l_ij = p_ij +- sqrt(alpha ln t / N_ij) (1 and 0 where the pair never met), the
candidates are the arms that may beat the most others: argmax_i #{j : u_ij > 1/2}. The champion a is the candidate with
the largest Copeland score in a posterior draw theta_ij ~ Beta(wins_ij + 1, wins_ji + 1), theta_ji = 1 - theta_ij. The
challenger comes from a second, independent draw: argmax_i theta_ia, theta_aa = 1/2, over the arms with l_ia <= 1/2.
That is the champion's COLUMN, the strongest rival, which may be the champion itself; its row would find the weakest.

`dts` breaks ties for the champion at random. `dts_plus` takes the arm whose duels cost least by the draw: the smallest
sum over j of (2 max s - s_i - s_j) / d(theta_ij, 1/2), s the drawn Copeland scores, d the Bernoulli divergence.

Settings. alpha > 1/2, above 1 in the theorem, 0.51 in the experiments. Guarantee. Regret O(K log T + K^2 log log T)
with a Condorcet winner and in most Copeland instances; no Condorcet winner is needed.

How it is fast, exactly. A draw is made from one uniform by the inverse of its distribution function: theta_ij exceeds
1/2 just where the uniform exceeds q_ij = P(theta_ij <= 1/2), and q changes for one pair per duel. Scores need no more
than that. The challenger needs values of theta only where two rivals or more exceed 1/2, and only theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, xlogy

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import BoundSettings, KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.selection import draw
from duelenv.core import AgentView


class DoubleThompson(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: The width of the bounds.
        least_regret: Break ties by the regret in the draw (dts_plus) instead of at random.
    """

    simultaneous = True
    state = ("_margin", "_below_half")

    def __init__(
        self,
        view: AgentView,
        seed: int,
        name: str,
        settings: BoundSettings,
        *,
        least_regret: bool,
    ) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        self._least_regret = least_regret
        replicates, num_arms = self.replicates, self.num_arms
        shape = (replicates, num_arms, num_arms)
        # N_ij (1/2 - p_ij)^2 where p_ij < 1/2: u_ij > 1/2 says that it is below alpha ln t. -1 where u_ij > 1/2
        # whatever t is; infinite on the diagonal, which is no duel.
        self._margin: Array = np.full(shape, -1.0)
        self._margin[:, range(num_arms), range(num_arms)] = np.inf
        self._below_half: Array = np.full(shape, 0.5)  # q_ij = P(theta_ij <= 1/2)
        self._upper = np.triu_indices(num_arms, 1)
        # An arm's pairs by their place in `_upper`, and whether the arm is the pair's second.
        places = np.zeros((num_arms, num_arms), np.int64)
        places[self._upper] = range(len(self._upper[0]))
        self._places = places + places.T
        self._is_second = np.tril(np.ones((num_arms, num_arms), np.bool_), -1)
        self._columns = np.arange(num_arms)
        self._ones = np.ones(num_arms, np.float32)

    def _choose(self) -> tuple[Arms, Arms]:
        bonus = self.settings.alpha * np.log(self.duels)
        candidates = self._candidates(bonus)
        champion = self._champion(candidates)
        return champion, self._challenger(champion, bonus)

    def _candidates(self, bonus: float) -> NDArray[np.bool_]:
        """Return the arms of each replicate that may have the largest Copeland score, bool [R, K]."""
        may_beat = (self._margin < bonus).reshape(-1, self.num_arms)
        scores = may_beat.astype(np.float32) @ self._ones  # sums rows three times as fast as sum does
        by_replicate = scores.reshape(self.replicates, self.num_arms)
        # argmax and taking it: four times as fast as max over a short axis.
        best = by_replicate.argmax(axis=1)
        largest = by_replicate.reshape(-1).take(np.arange(self.replicates) * self.num_arms + best)
        return by_replicate == largest[:, np.newaxis]

    def _champion(self, candidates: NDArray[np.bool_]) -> Arms:
        uniforms = self.streams.uniform(len(self._upper[0]))  # of this round's first draw
        ties = self.streams.uniform()
        several = np.count_nonzero(candidates, axis=1) > 1
        champion: Arms = self._by_row(candidates.argmax(axis=1)).copy()
        rows = np.flatnonzero(self._by_row(several))  # one candidate needs no draw
        if not len(rows):
            return champion
        replicates, draws = self._replicate[rows], uniforms[rows]
        beats = self._beats(replicates, draws)
        scores = np.count_nonzero(beats, axis=2)  # (M, K)
        best = np.where(candidates[replicates], scores, -1)
        tied = best == best.max(axis=1, keepdims=True)
        champion[rows] = draw(tied, ties[rows])
        if self._least_regret:
            open_ = np.flatnonzero(np.count_nonzero(tied, axis=1) > 1)
            if len(open_):
                regret = self._drawn_regret(replicates[open_], draws[open_], scores[open_], tied[open_])
                champion[rows[open_]] = regret.argmin(axis=1)
        return champion

    def _beats(self, replicates: Arms, uniforms: Array) -> NDArray[np.bool_]:
        """Return whether theta_ij > 1/2 in a draw, bool [M, K, K]."""
        first, second = self._upper
        beats = np.zeros((len(replicates), self.num_arms, self.num_arms), np.bool_)
        wins = uniforms > self._below_half[replicates][:, first, second]
        beats[:, first, second] = wins
        beats[:, second, first] = ~wins
        return beats

    def _drawn_regret(
        self, replicates: Arms, uniforms: Array, scores: NDArray[np.int64], tied: NDArray[np.bool_]
    ) -> Array:
        """Return sum_j (2 max s - s_i - s_j) / d(theta_ij, 1/2) of the tied arms, infinite elsewhere, [M, K]."""
        row, arm = np.nonzero(tied)
        wins = self.counts.wins[replicates[row], arm]  # (P, K)
        losses = self.counts.wins[replicates[row], :, arm]
        draws = uniforms[row[:, np.newaxis], self._places[arm]]
        # theta of the pair (i, j), i < j, is drawn once; the arm may stand on either side of it.
        flip = self._is_second[arm]
        alpha, beta = np.where(flip, losses, wins), np.where(flip, wins, losses)
        theta = betaincinv(alpha + 1.0, beta + 1.0, draws)
        divergence = np.log(2.0) + xlogy(theta, theta) + xlogy(1.0 - theta, 1.0 - theta)
        loss = 2.0 * scores.max(axis=1)[row, np.newaxis] - scores[row, arm][:, np.newaxis] - scores[row]
        cost = np.zeros_like(divergence)
        itself = arm[:, np.newaxis] == self._columns
        np.divide(loss, divergence, out=cost, where=~itself & (divergence > 0.0))
        regret = np.full(tied.shape, np.inf)
        regret[row, arm] = cost.sum(axis=1)
        return regret

    def _challenger(self, champion: Arms, bonus: float) -> Arms:
        uniforms = self.streams.uniform(self.num_arms)  # of the second draw's column
        rows = self._offset + champion
        by_arm = (-1, self.num_arms)
        # Row a holds q_ai = P(theta_ia >= 1/2): arm i beats the champion where its uniform is above 1 - q_ai.
        above = uniforms > 1.0 - self._below_half.reshape(by_arm).take(rows, axis=0)
        above &= self._margin.reshape(by_arm).take(rows, axis=0) <= bonus  # l_ia <= 1/2, as u_ai >= 1/2
        number = np.count_nonzero(above, axis=1)
        challenger = np.where(number > 0, above.argmax(axis=1), champion)
        several = np.flatnonzero(number > 1)
        if len(several):
            row, arm = np.nonzero(above[several])
            rivals, wins = several[row], self.counts.wins
            replicates, against = self._replicate[rivals], champion[rivals]
            theta = np.full((len(several), self.num_arms), -1.0)
            theta[row, arm] = betaincinv(
                wins[replicates, arm, against] + 1.0,
                wins[replicates, against, arm] + 1.0,
                uniforms[rivals, arm],
            )
            challenger[several] = theta.argmax(axis=1)
        return challenger

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        forward, backward = counted.forward, counted.backward
        if not len(forward):
            return
        won, lost = self.counts.flat[forward], self.counts.flat[backward]
        played = won + lost
        for positions, chance in ((forward, won / played), (backward, lost / played)):
            margin = np.where(chance > 0.5, -1.0, played * (0.5 - chance) ** 2)
            self._margin.reshape(-1)[positions] = margin
        # P(Beta(a, b) <= 1/2), taken for the lower arm so that both sides of a pair agree to the last bit.
        low_first = counted.first < counted.second
        low, high = np.where(low_first, won, lost), np.where(low_first, lost, won)
        below = betainc(low + 1.0, high + 1.0, 0.5)
        self._below_half.reshape(-1)[forward] = np.where(low_first, below, 1.0 - below)
        self._below_half.reshape(-1)[backward] = np.where(low_first, 1.0 - below, below)


@register("dts")
def dts(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the D-TS agent."""
    return DoubleThompson(view, seed, "dts", settings.take(BoundSettings), least_regret=False)


@register("dts_plus")
def dts_plus(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the D-TS+ agent."""
    return DoubleThompson(view, seed, "dts_plus", settings.take(BoundSettings), least_regret=True)
