"""Missing: some labels never come. Not for labels that come later (`delay`), nor for rows that were not asked."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.labels.stage import Stage


class Missing(Stage):
    """Loses each label with a fixed probability, independently of everything: it is NaN and stays so.

    The query was asked and counts: labels are paid for, whether they arrive or not.

    Args:
        probability: Of losing a label, in [0, 1].

    Example:
        >>> import gymnasium, duelenv
        >>> env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, horizon=8, stages=[Missing(probability=1.0)])
        >>> observation, info = env.reset(seed=0)
        >>> observation, labels, _, _, info = env.step(np.array([[0, 1], [2, 3]]))
        >>> labels.tolist(), info["queries"].tolist()
        ([nan, nan], [1, 1])
    """

    kind: ClassVar[str] = "missing"
    draws: ClassVar[bool] = True

    def __init__(self, probability: float) -> None:
        self.probability = checks.number("probability", probability, low=0.0, high=1.0)

    def lose(self, uniforms: NDArray[np.float64]) -> NDArray[np.bool_]:
        return uniforms < self.probability
