"""Corruption: an adversary with a budget turns true labels into false ones. Not for flips by chance: see `flip`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.disturbances.adversary import surest, truthful
from duelenv.disturbances.delay import NEVER
from duelenv.ground import checks
from duelenv.labels.stage import Clock, Passing, Stage


class Corruption(Stage):
    """Flips every label that tells the truth about a sure duel, until the budget of the replicate is spent.

    The strong adversary of Di, He and Gu 2024 (arXiv 2404.10776), who sees pair, label and truth before it flips, with
    their measure C, the number of flipped labels. Rule: a label is flipped if it names the truly likelier winner, if
    |P(first) - P(second)| of its duel is at least `margin`, and if fewer than C labels of its replicate were flipped
    before it since the last seeded reset. With several such labels in one step the surest go first, and among equals
    the older and the lower row. `margin=0.0` spends the budget as early as it can, when labels weigh most; a higher one
    keeps it for the labels whose reversal costs the true utility most likelihood.

    `info["corruptions"]` is the number of labels flipped so far, int64 [replicates], for people and not for agents.

    Args:
        budget: C of each replicate, 0 or more.
        margin: Least |P(first) - P(second)|, in [0, 1].

    Example:
        >>> import gymnasium, duelenv
        >>> stages = [Corruption(budget=3)]
        >>> env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, horizon=50, stages=stages)
        >>> observation, info = env.reset(seed=0)
        >>> for _ in range(50):
        ...     observation, labels, _, _, info = env.step(np.array([[0, 1], [2, 3]]))
        >>> info["corruptions"].tolist()
        [3, 3]
    """

    kind: ClassVar[str] = "corruption"

    def __init__(self, budget: int, margin: float = 0.0) -> None:
        self.budget = checks.integer("budget", budget, low=0, high=NEVER)
        self.margin = checks.number("margin", margin, low=0.0, high=1.0)
        self.start(1, 1)

    def start(self, replicates: int, batch: int) -> None:
        self._batch = batch
        self._flipped = np.zeros(replicates, np.int64)

    def alter(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.float64]:
        replicate = passing.row // self._batch
        eligible = truthful(passing, self.margin)
        chosen = surest(eligible, passing.margin, replicate, self.budget - self._flipped)
        self._flipped += np.bincount(replicate[chosen], minlength=len(self._flipped))
        return np.where(chosen, 1.0 - passing.label, passing.label)

    def figures(self) -> dict[str, Any]:
        return {"corruptions": self._flipped.copy()}

    def state_dict(self) -> dict[str, Any]:
        return {"flipped": self._flipped.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._flipped = np.array(state["flipped"], np.int64)
