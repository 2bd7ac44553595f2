"""Missing: some labels never come. Not for labels that come later (`delay`), nor for rows that were not asked."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import DuelVectorEnv
from duelenv.ground import checks
from duelenv.late import Answers
from duelenv.wrappers.base import LabelWrapper, Marks


class Missing(LabelWrapper):
    """Loses each label with a fixed probability, independently of everything: it is NaN and stays so.

    The query was asked and counts: labels are paid for, whether they arrive or not.

    Args:
        env: See `LabelWrapper`.
        probability: Of losing a label, in [0, 1].

    Example:
        >>> import gymnasium, duelenv
        >>> world = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, num_candidates=5, horizon=8)
        >>> env = Missing(world, probability=1.0)
        >>> observation, info = env.reset(seed=0)
        >>> observation, labels, _, _, info = env.step(np.array([[0, 1], [2, 3]]))
        >>> labels.tolist(), info["queries"].tolist()
        ([nan, nan], [1, 1])
    """

    kind: ClassVar[str] = "missing"

    def __init__(self, env: DuelVectorEnv | LabelWrapper, probability: float) -> None:
        super().__init__(env)
        self.probability = checks.number("probability", probability, low=0.0, high=1.0)

    def _pass_on(self, answers: Answers, marks: Marks, last: bool) -> Answers:
        return answers.take(~self._lost(marks))

    def _lost(self, marks: Marks) -> NDArray[np.bool_]:
        lost: NDArray[np.bool_] = marks < self.probability
        return lost
