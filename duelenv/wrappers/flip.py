"""Flip: every label is turned round with a fixed probability. Not for an adversary, who chooses: see `corruption`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from duelenv.core import DuelVectorEnv
from duelenv.ground import checks
from duelenv.late import Answers
from duelenv.wrappers.base import LabelWrapper, Marks


class Flip(LabelWrapper):
    """Turns each label y into 1 - y with a fixed probability, independently of everything; a tie stays a tie.

    The agent then meets P' = (1 - p) P + p (1 - P); regret is measured by P. The oracle wrapper `Noise` gives labels of
    the same distribution, but not with the coins of the undisturbed run: here whatever is not flipped is equal.

    Args:
        env: See `LabelWrapper`.
        probability: p in [0, 1]; 0.5 leaves nothing to learn.

    Example:
        >>> import gymnasium, duelenv
        >>> world = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=4, num_candidates=5, horizon=8)
        >>> env = Flip(world, probability=0.1)
        >>> observation, info = env.reset(seed=0)
    """

    kind: ClassVar[str] = "flip"

    def __init__(self, env: DuelVectorEnv | LabelWrapper, probability: float) -> None:
        super().__init__(env)
        self.probability = checks.number("probability", probability, low=0.0, high=1.0)

    def _pass_on(self, answers: Answers, marks: Marks, last: bool) -> Answers:
        flipped = marks < self.probability
        return answers._replace(label=np.where(flipped, 1.0 - answers.label, answers.label))
