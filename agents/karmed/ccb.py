"""Copeland confidence bound, CCB (Zoghi, Karnin, Whiteson and de Rijke 2015, arXiv 1506.00312, Algorithm 1).

Rule. With u_ij = p_ij + sqrt(alpha ln t / N_ij) and l_ij = 1 - u_ji, arm i has an optimistic Copeland score, the number
of arms it may beat, and a pessimistic one, the number it surely beats. The candidates C have the largest optimistic
score. Three hypotheses are kept: which arms may be winners (B), which rivals (B_i) will show that i is none, and the
number L of losses that a winner has.

A. A rival in B_i that i surely beats disproves them: start the hypotheses again.
B. An arm of B whose optimistic score is below some pessimistic one leaves; unless it has L + 1 rivals already, its
   B_i become the arms that surely beat it. With B empty, start again.
C. A candidate whose two scores agree is a winner: it joins B, has no rivals, and sets L; other arms keep L + 1 rivals,
   or none if they have fewer.

With probability 1/4 a pair (i, j in B_i) that is not settled duels. Otherwise the champion is a random candidate, with
probability 2/3 one that B holds too, and its challenger the strongest unsettled rival argmax u_jc, with probability 1/2
from its B_c alone. Of equals a random one is taken.

Settings. alpha > 1/2. Guarantee. Regret O((K^2 + (C + L) K ln T) / gap^2) in the Copeland score, C winners with L
losses; no Condorcet winner is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import BoundSettings, KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.karmed.intervals import PairBounds
from duelenv.agents.selection import draw, random_argmax
from duelenv.core import AgentView


class CCB(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: The width of the bounds.
    """

    state = ("_margin", "_mean", "_inverse_root", "_winners", "_rivals", "_losses")

    def __init__(self, view: AgentView, seed: int, name: str, settings: BoundSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        self._bounds = PairBounds(self.replicates, self.num_arms)
        self._margin = self._bounds.margin
        self._mean = self._bounds.mean
        self._inverse_root = self._bounds.inverse_root
        shape = (self.replicates, self.num_arms, self.num_arms)
        self._winners: NDArray[np.bool_] = np.ones(shape[:2], np.bool_)  # B
        self._rivals: NDArray[np.bool_] = np.zeros(shape, np.bool_)  # B_i
        self._losses: Arms = np.full(self.replicates, self.num_arms)  # L

    def _choose(self) -> tuple[Arms, Arms]:
        rows = np.arange(self.replicates)
        bonus = self.settings.alpha * float(np.log(self.duels))
        loses = self._bounds.loses(bonus)  # i surely loses to j
        wins = loses.transpose(0, 2, 1)
        optimistic = self.num_arms - 1 - np.count_nonzero(loses, axis=2)
        pessimistic = np.count_nonzero(wins, axis=2)
        candidates = optimistic == optimistic.max(axis=1, keepdims=True)
        self._revise(loses, wins, optimistic, pessimistic, candidates)

        draws = self.streams.uniform(6)
        shared = candidates & self._winners
        narrow = (draws[:, 0] < 2.0 / 3.0) & shared.any(axis=1)
        first = draw(np.where(narrow[:, np.newaxis], shared, candidates), draws[:, 1])
        open_ = ~loses[rows, first]  # rivals j with l_jc <= 1/2
        few = open_ & self._rivals[rows, first]
        narrow = (draws[:, 2] < 0.5) & few.any(axis=1)
        bounds = self._bounds.upper_column(rows, first, bonus)
        second = random_argmax(np.where(np.where(narrow[:, np.newaxis], few, open_), bounds, -1.0), draws[:, 5])

        unsettled = (self._rivals & ~loses & ~wins).reshape(self.replicates, -1)
        explore = np.flatnonzero((draws[:, 3] < 0.25) & unsettled.any(axis=1))
        if len(explore):
            pair = draw(unsettled[explore], draws[explore, 4])
            first[explore], second[explore] = np.divmod(pair, self.num_arms)
        return first, second

    def _revise(
        self,
        loses: NDArray[np.bool_],
        wins: NDArray[np.bool_],
        optimistic: Arms,
        pessimistic: Arms,
        candidates: NDArray[np.bool_],
    ) -> None:
        """Bring the hypotheses up to date: A, B and C of the module."""
        self._start_again(np.count_nonzero(self._rivals & wins, axis=(1, 2)) > 0)

        out = self._winners & (optimistic < pessimistic.max(axis=1, keepdims=True))
        self._winners &= ~out
        wanted = self._losses[:, np.newaxis] + 1
        renewed = out & (np.count_nonzero(self._rivals, axis=2) != wanted)
        self._rivals[renewed] = loses[renewed]
        self._start_again(np.count_nonzero(self._winners, axis=1) == 0)

        sure = candidates & (optimistic == pessimistic)
        found = np.flatnonzero(sure.any(axis=1))
        if not len(found):
            return
        self._winners[found] |= sure[found]
        self._losses[found] = self.num_arms - 1 - optimistic[found].max(axis=1)
        wanted = self._losses[found, np.newaxis, np.newaxis] + 1
        rivals = self._rivals[found]
        ranks = rivals.cumsum(axis=2)  # internal numbers are random, and so are the first ones
        rivals &= (ranks <= wanted) & (ranks[:, :, -1:] >= wanted) & ~sure[found][:, :, np.newaxis]
        self._rivals[found] = rivals

    def _start_again(self, replicates: NDArray[np.bool_]) -> None:
        self._winners[replicates] = True
        self._rivals[replicates] = False
        self._losses[replicates] = self.num_arms

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        self._bounds.update(self.counts, counted)


@register("ccb")
def ccb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the CCB agent."""
    return CCB(view, seed, "ccb", settings.take(BoundSettings))
