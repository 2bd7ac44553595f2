"""Batching: labels come in lots, every so many rounds. Not `batch`, the rows of a world that share one truth."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.disturbances.delay import NEVER
from duelenv.ground import checks
from duelenv.labels.stage import Clock, Passing, Stage


class Batching(Stage):
    """Collects labels and hands them all over with every B-th round of an episode, and with its last.

    The batched bandit of Perchet, Rigollet, Chassang and Snowberg 2016 (arXiv 1505.00369) with equal batches: the agent
    may choose differently within a batch, but learns nothing in it. The last round's own labels are in `step`'s labels,
    the others in `info["late"]`.

    Args:
        rounds: B, at least 1; 1 changes nothing.
    """

    kind: ClassVar[str] = "batching"
    holds: ClassVar[bool] = True
    deliver_rest = True

    def __init__(self, rounds: int) -> None:
        self.rounds = checks.integer("rounds", rounds, low=1, high=NEVER)

    def due(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.int64]:
        played = clock.now - clock.start
        return np.full(len(passing), clock.now - played % self.rounds + self.rounds - 1)
