"""Batching: labels come in lots, every so many rounds. Not `batch`, the rows of a world that share one truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import DuelVectorEnv
from duelenv.ground import checks
from duelenv.late import Answers
from duelenv.wrappers.base import HoldingWrapper, LabelWrapper, Marks


class Batching(HoldingWrapper):
    """Collects labels and hands them all over with every B-th round of an episode, and with its last.

    The batched bandit of Perchet, Rigollet, Chassang and Snowberg 2016 (arXiv 1505.00369) with equal batches: the agent
    may choose differently within a batch, but learns nothing in it. The last round's own labels are in `step`'s labels,
    the others in `info["late"]`.

    Args:
        env: See `LabelWrapper`.
        rounds: B, at least 1; 1 changes nothing.
    """

    kind: ClassVar[str] = "batching"

    def __init__(self, env: DuelVectorEnv | LabelWrapper, rounds: int) -> None:
        super().__init__(env, deliver_rest=True)
        self.rounds = checks.integer("rounds", rounds, low=1)

    def _mark(self, info: Mapping[str, Any]) -> Marks:
        return np.zeros(self.num_envs)  # nothing here is left to chance

    def _due(self, answers: Answers, marks: Marks) -> NDArray[np.int64]:
        end = self._round - self._round % self.rounds + self.rounds - 1
        return np.full(len(marks), end)
