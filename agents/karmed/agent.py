"""What the K-armed algorithms share: fixed arms, counts, streams, checkpoints; no rule of any of them.

An algorithm subclasses `KArmedAgent`, chooses pairs in `_choose` from arrays with a leading replicate axis, and brings
its own statistics up to date in `_learn`.

Arms carry internal numbers, which are a random permutation of the environment's, drawn once per replicate. Where a
paper breaks ties arbitrarily or works through arms in an arbitrary order, the lowest internal number may therefore go
first, and the numbering of the arms in the environment (often from best to worst) gives nothing away.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.karmed.counts import Arms, Array, Counted, WinCounts
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

MATRIX_WORLD = "duelenv/MatrixDuel-v0"
FEATURE_WORLD = "duelenv/FeatureDuel-v0"


class KArmedAgent(Agent):
    """Duels K arms that stay the same, and ignores their features.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams, one per row.
        name: The name it is registered under, also the purpose of its streams.

    Attributes:
        counts: Won duels between the arms, by internal number.
        round: Rounds acted so far.

    Raises:
        UserError: The world's candidates do not stay the same, or it has a policy model; or batch > 1 and the
            algorithm decides on one duel at a time.
    """

    fixed_arms: ClassVar[bool] = True
    """Whether the algorithm makes sense only where the candidates stay the same."""

    simultaneous: ClassVar[bool] = False
    """Whether the rows of a replicate may choose from the same state, each with its own stream (batch > 1)."""

    state: ClassVar[tuple[str, ...]] = ()
    """Arrays of the subclass that a checkpoint holds."""

    def __init__(self, view: AgentView, seed: int, name: str) -> None:
        super().__init__(view)
        if self.fixed_arms and not view.fixed_candidates:
            raise UserError(
                f"agent {name!r} needs K arms that stay the same, and {view.world} shows new candidates every round; "
                f"use {MATRIX_WORLD}, or {FEATURE_WORLD} with fixed=True"
            )
        if view.batch > 1 and not self.simultaneous:
            raise UserError(
                f"agent {name!r} decides on each duel after seeing the last one, and batch={view.batch} asks for "
                "several at once; set batch=1"
            )
        self.name = name
        self.num_arms = view.num_candidates
        self.replicates = view.replicates
        self.round = 0
        self.counts = WinCounts(view.replicates, view.num_candidates)
        self.streams = RowStreams(seed, f"agents/{name}", view.num_envs)
        self._replicate: Arms = np.arange(view.num_envs) // view.batch  # of each row
        self._offset: Arms = self._replicate * self.num_arms  # of each row's arms in a flattened [R, K]
        orders = RowStreams(seed, f"agents/{name}/order", view.replicates)
        self._set_order(orders.uniform(self.num_arms).argsort(axis=1))

    @property
    def duels(self) -> int:
        """The papers' t: number of the current duel of each replicate, from 1; a batch counts as its rows."""
        return self.round * self.view.batch + 1

    @abstractmethod
    def _choose(self) -> tuple[Arms, Arms]:
        """Return the first and second arm of every row's duel, int64 [N] each."""

    def _learn(self, counted: Counted, first: Arms, second: Arms, labels: Array) -> None:
        """Bring statistics up to date; the counts are.

        Args:
            counted: The duels that changed the counts.
            first: First arm of every row, int64 [N].
            second: Second arm of every row.
            labels: Its label, float64 [N], NaN where none came.
        """

    def _best(self) -> Arms:
        """Return the arm believed best in every replicate, int64 [R]."""
        return self.counts.leader()

    # Between the environment's numbers and the agent's ---------------------------------------------------------------

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        first, second = self._choose()
        self.round += 1
        actions = np.empty((self.view.num_envs, 3 if self.view.selective else 2), np.int64)
        actions[:, 0] = self._order.take(self._offset + first)
        actions[:, 1] = self._order.take(self._offset + second)
        if self.view.selective:
            actions[:, 2] = 1  # these algorithms learn from every duel
        return actions

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        first = self._place.take(self._offset + actions[:, 0])
        second = self._place.take(self._offset + actions[:, 1])
        counted = self.counts.add(self._replicate, first, second, labels)
        self._learn(counted, first, second, labels)
        return {}

    def _recommend(self, observation: Observation) -> Arms:
        best = self._order[np.arange(self.replicates), self._best()]
        return best[self._replicate]

    def _set_order(self, order: Arms) -> None:
        """Let internal arm i of replicate r be the environment's arm order[r, i]."""
        self._order = order
        self._place = order.argsort(axis=1)

    # What the rules share --------------------------------------------------------------------------------------------

    def _by_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat values [R, ...] for the rows of each replicate, [N, ...]."""
        return values if self.view.batch == 1 else np.repeat(values, self.view.batch, axis=0)

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "order": self._order.copy(),
            "wins": self.counts.wins.copy(),
            "streams": self.streams.state_dict(),
            "arrays": {name: getattr(self, name).copy() for name in self.state},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.round = int(state["round"])
        self._set_order(np.array(state["order"], np.int64))
        self.counts.wins[...] = state["wins"]
        self.streams.load_state_dict(state["streams"])
        for name in self.state:
            getattr(self, name)[...] = state["arrays"][name]  # in place: flat views of it stay valid


@dataclass(frozen=True)
class BoundSettings:
    """How wide upper confidence bounds are.

    Attributes:
        alpha: Factor of ln t in the bounds, above 1/2, where the guarantees begin.
    """

    alpha: float = 0.51

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, above=0.5)
