"""Flip: every label is turned round with a fixed probability. Not for an adversary, who chooses: see `corruption`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.labels.stage import Clock, Passing, Stage


class Flip(Stage):
    """Turns each label y into 1 - y with a fixed probability, independently of everything; a tie stays a tie.

    The agent then meets P' = (1 - p) P + p (1 - P); regret is measured by P. The oracle wrapper `Noise` gives labels of
    the same distribution, but not with the coins of the undisturbed run: here whatever is not flipped is equal.

    Args:
        probability: p in [0, 1]; 0.5 leaves nothing to learn.

    Example:
        >>> import gymnasium, duelenv
        >>> env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=4, horizon=8, stages=[Flip(probability=0.1)])
        >>> observation, info = env.reset(seed=0)
    """

    kind: ClassVar[str] = "flip"
    draws: ClassVar[bool] = True

    def __init__(self, probability: float) -> None:
        self.probability = checks.number("probability", probability, low=0.0, high=1.0)

    def alter(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.float64]:
        return np.where(uniforms < self.probability, 1.0 - passing.label, passing.label)
