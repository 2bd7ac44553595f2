"""`Arrivals`: labels of earlier rounds as they reach an agent, each with what was shown and played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Observation = Mapping[str, Any]


@dataclass(eq=False, slots=True)  # not frozen: one is made every step, and freezing takes longer than the rest
class Arrivals:
    """M labels that arrive with a step, in order of round and row; `info["late"]`.

    Attributes:
        now: Number of the round that the step played, counted from 0 at the last seeded reset.
        round: Number of the round in which each duel was fought, int64 [M].
        row: Its row, int64 [M].
        label: float64 [M] in [0, 1].
        actions: What was played, int64 [M, 2] or [M, 3].
        observation: What was shown in that row, arrays with a leading axis M, in scalar worlds too. Drawn when the
            round was played; put together when it is first read.
        asked: How many labels the row's replicate asked for in that round, int64 [M].
    """

    now: int
    round: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.float64]
    actions: NDArray[np.int64]
    observation: Observation
    asked: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arrivals) or (self.now, *self.observation) != (other.now, *other.observation):
            return False
        arrays = [(getattr(self, name), getattr(other, name)) for name in ("round", "row", "label", "actions", "asked")]
        arrays += [(value, other.observation[key]) for key, value in self.observation.items()]
        return all(np.array_equal(one, two) for one, two in arrays)

    __hash__ = None  # type: ignore[assignment]
