"""Corruption: an adversary with a budget turns true labels into false ones. Not for flips by chance: see `flip`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import DuelVectorEnv, Labels
from duelenv.ground import checks
from duelenv.late import Answers
from duelenv.wrappers.adversary import surest, truthful
from duelenv.wrappers.base import LabelWrapper, Marks


class Corruption(LabelWrapper):
    """Flips every label that tells the truth about a sure duel, until the budget of the replicate is spent.

    The strong adversary of Di, He and Gu 2024 (arXiv 2404.10776), who sees pair, label and truth before it flips, with
    their measure C, the number of flipped labels. Rule: a label is flipped if it names the truly likelier winner, if
    |P(first) - P(second)| of its duel is at least `margin`, and if fewer than C labels of its replicate were flipped
    before it since the last seeded reset. With several such labels in one step the surest go first, and among equals
    the older and the lower row. `margin=0.0` spends the budget as early as it can, when labels weigh most; a higher one
    keeps it for the labels whose reversal costs the true utility most likelihood.

    `info["corruptions"]` is the number of labels flipped so far, int64 [replicates], for people and not for agents.

    Args:
        env: See `LabelWrapper`.
        budget: C of each replicate, 0 or more.
        margin: Least |P(first) - P(second)|, in [0, 1].

    Example:
        >>> import gymnasium, duelenv
        >>> world = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, num_candidates=5, horizon=50)
        >>> env = Corruption(world, budget=3)
        >>> observation, info = env.reset(seed=0)
        >>> for _ in range(50):
        ...     observation, labels, _, _, info = env.step(np.array([[0, 1], [2, 3]]))
        >>> info["corruptions"].tolist()
        [3, 3]
    """

    kind: ClassVar[str] = "corruption"

    def __init__(self, env: DuelVectorEnv | LabelWrapper, budget: int, margin: float = 0.0) -> None:
        super().__init__(env)
        self.budget = checks.integer("budget", budget, low=0)
        self.margin = checks.number("margin", margin, low=0.0, high=1.0)
        self._flipped: NDArray[np.int64]

    def _mark(self, info: Mapping[str, Any]) -> Marks:
        margin: Marks = info["margin"]
        return margin

    def _pass_on(self, answers: Answers, marks: Marks, last: bool) -> Answers:
        replicate = answers.row // self._world.batch
        eligible = truthful(answers, marks, self.margin)
        chosen = surest(eligible, marks, replicate, self.budget - self._flipped)
        self._flipped += np.bincount(replicate[chosen], minlength=self._world.replicates)
        return answers._replace(label=np.where(chosen, 1.0 - answers.label, answers.label))

    def step(self, actions: Any) -> tuple[Any, Labels, Any, Any, dict[str, Any]]:
        observation, labels, terminated, truncated, info = super().step(actions)
        info["corruptions"] = info.get("corruptions", 0) + self._flipped
        return observation, labels, terminated, truncated, info

    def _redraw(self, root: int) -> None:
        super()._redraw(root)
        self._flipped = np.zeros(self._world.replicates, np.int64)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"flipped": self._flipped.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        observation = super().load_state_dict(state)
        self._flipped = np.array(state["flipped"], np.int64)
        return observation
