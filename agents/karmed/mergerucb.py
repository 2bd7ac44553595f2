"""MergeRUCB (Zoghi, Whiteson and de Rijke 2015, WSDM, Algorithm 1): RUCB in small batches, for many arms.

Rule. Arms are put into batches of at most `partition`; batch t mod b is due in round t, b their number. From the due
batch every arm with u_ij < 1/2 for some j of it is eliminated, where u_ij = p_ij + sqrt(alpha ln t / N_ij), 1 where the
pair never met; a batch of one arm joins the next batch. A random arm c of the batch meets its strongest rival there,
argmax_{j != c} u_jc. In stage S = 1, 2, ..., once at most K / 2^S arms are left, batches merge in pairs, the smallest
with the largest. The last arm plays itself.

Settings. alpha = 1.01 and partition = 4, as in the experiments. Guarantee. O(K ln T) with high probability with a
Condorcet winner and few uninformative ties; an eliminated arm never comes back.

Where preferences are cyclic every arm of a batch may be worse than another; the one nearest to staying then stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import BoundSettings, KArmedAgent
from duelenv.agents.karmed.counts import Arms, Array, Counted
from duelenv.agents.karmed.intervals import PairBounds
from duelenv.agents.selection import draw
from duelenv.core import AgentView
from duelenv.ground import checks

ELIMINATED = -1


@dataclass(frozen=True)
class MergeRUCBSettings(BoundSettings):
    """How the batches work.

    Attributes:
        alpha: Factor of ln t in the bounds, above 1/2.
        partition: Arms in a first batch, at least 2.
    """

    alpha: float = 1.01
    partition: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("partition", self.partition, low=2)


class MergeRUCB(KArmedAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: How the batches work.
    """

    state = ("_margin", "_mean", "_inverse_root", "_batch", "_number", "_stage")

    def __init__(self, view: AgentView, seed: int, name: str, settings: MergeRUCBSettings) -> None:
        super().__init__(view, seed, name)
        self.settings = settings
        self._bounds = PairBounds(self.replicates, self.num_arms)
        self._margin = self._bounds.margin
        self._mean = self._bounds.mean
        self._inverse_root = self._bounds.inverse_root
        batches = np.arange(self.num_arms) // settings.partition
        self._batch: Arms = np.tile(batches, (self.replicates, 1))  # of each arm
        self._number: Arms = np.full(self.replicates, batches[-1] + 1)  # of batches
        self._stage: Arms = np.ones(self.replicates, np.int64)

    def _choose(self) -> tuple[Arms, Arms]:
        rows = np.arange(self.replicates)
        bonus = self.settings.alpha * float(np.log(self.duels))
        due = self.round % self._number
        self._eliminate(due, bonus)
        members = self._batch == due[:, np.newaxis]
        alone = np.flatnonzero((np.count_nonzero(members, axis=1) == 1) & (self._number > 1))
        if len(alone):
            due[alone] = self._join_next(alone, due[alone])
            members = self._batch == due[:, np.newaxis]
        first = draw(members, self.streams.uniform())
        members[rows, first] = False
        rivals = self._bounds.upper_column(rows, first, bonus)
        rivals[~members] = -1.0
        second = np.where(members.any(axis=1), rivals.argmax(axis=1), first)
        self._merge()
        return first, second

    def _eliminate(self, due: Arms, bonus: float) -> None:
        members = self._batch == due[:, np.newaxis]
        inside = members[:, :, np.newaxis] & members[:, np.newaxis, :]
        worst = np.where(inside, self._margin, 0.0).max(axis=2)
        nearest = np.where(members, worst, np.inf).argmin(axis=1)
        out = members & (worst > bonus)
        out[np.arange(self.replicates), nearest] = False
        self._batch[out] = ELIMINATED

    def _join_next(self, rows: Arms, due: Arms) -> Arms:
        """Put the one arm of each due batch into the next batch; return that batch's new number."""
        batch = self._batch[rows]
        following = (due + 1) % self._number[rows]
        batch = np.where(batch == due[:, np.newaxis], following[:, np.newaxis], batch)
        batch -= batch > due[:, np.newaxis]
        self._batch[rows] = batch
        self._number[rows] -= 1
        return following - (following > due)

    def _merge(self) -> None:
        """Merge batches in pairs where the stage is over."""
        arms = np.count_nonzero(self._batch != ELIMINATED, axis=1)
        rows = np.flatnonzero((arms * 2.0**self._stage <= self.num_arms) & (self._number > 1))
        if not len(rows):
            return
        batch = self._batch[rows]
        numbers = np.arange(self.num_arms)
        sizes = np.count_nonzero(batch[:, :, np.newaxis] == numbers, axis=1)  # (M, K)
        sizes = np.where(sizes == 0, self.num_arms + 1, sizes)  # numbers not in use rank last
        ranks = sizes.argsort(axis=1, kind="stable").argsort(axis=1)
        merged = np.minimum(ranks, self._number[rows, np.newaxis] - 1 - ranks)
        taken = np.take_along_axis(merged, np.maximum(batch, 0), axis=1)
        self._batch[rows] = np.where(batch == ELIMINATED, ELIMINATED, taken)
        self._number[rows] = (self._number[rows] + 1) // 2
        self._stage[rows] += 1

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        self._bounds.update(self.counts, counted)

    def _best(self) -> Arms:
        """Return the arm that is left, or of several the one nearest to staying."""
        worst = np.where(self._batch != ELIMINATED, self._margin.max(axis=2), np.inf)
        return worst.argmin(axis=1)


@register("mergerucb")
def mergerucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MergeRUCB agent."""
    return MergeRUCB(view, seed, "mergerucb", settings.take(MergeRUCBSettings))
