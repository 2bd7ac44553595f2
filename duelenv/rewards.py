"""Rewards that replace the label: privileged ones, for full-information baselines; not for dueling-bandit agents.

A label says which of two candidates won. Regret says how far both were from the best, which no preference oracle
tells. A learner that sees it bounds from above what one could reach with the same network and optimiser, and must be
named as privileged wherever it stands beside agents that learn from labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv

if TYPE_CHECKING:
    _VectorWrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:
    _VectorWrapper = VectorWrapper  # takes types in brackets from Gymnasium 1.4 on


class RegretReward(_VectorWrapper):
    """PRIVILEGED: pays minus the regret of each duel, float64 [N], which depends on the hidden truth.

    The label moves to `info["label"]`. What a world knows of regret shows in the `info` of a round, so an unknown
    notion is refused at the first step.

    Args:
        env: A vector world, wrapped or not.
        notion: A name in `info["regret"]`, such as "average", "sum", "strong", "weak" or "utility".

    Raises:
        UserError: `env` is no vector world; or, at the first step, it does not know the notion.

    Example:
        >>> import gymnasium, duelenv
        >>> env = RegretReward(gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=2, matrix=[[0.5, 0.9], [0.1, 0.5]]))
        >>> observation, info = env.reset(seed=0)
        >>> env.step(np.array([[0, 0], [0, 1]]))[1].round(2).tolist()
        [-0.0, -0.2]
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], notion: str = "average") -> None:
        if not isinstance(env.unwrapped, DuelVectorEnv):
            raise UserError(f"RegretReward needs a vector world, got {env}; wrap a scalar one in ScalarRegretReward")
        super().__init__(env)
        self.notion = notion

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Any, Any, dict[str, Any]]:
        """Let the pairs duel; the reward is minus their regret."""
        observation, labels, terminated, truncated, info = self.env.step(actions)
        reward = -_regret(info, self.notion, self.env.unwrapped)
        return observation, reward, terminated, truncated, info | {"label": labels}


class ScalarRegretReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """PRIVILEGED: `RegretReward` for a scalar world; the reward is a float.

    Args:
        env: A scalar world, wrapped or not.
        notion: A name in `info["regret"]`.

    Raises:
        UserError: `env` is no scalar world; or, at the first step, it does not know the notion.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], notion: str = "average") -> None:
        if not isinstance(env.unwrapped, DuelEnv):
            raise UserError(f"ScalarRegretReward needs a scalar world, got {env}; wrap a vector one in RegretReward")
        super().__init__(env)
        self.notion = notion

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Let one pair duel; the reward is minus its regret."""
        observation, label, terminated, truncated, info = self.env.step(action)
        reward = -float(_regret(info, self.notion, self.env.unwrapped))
        return observation, reward, terminated, truncated, info | {"label": label}


def _regret(info: dict[str, Any], notion: str, world: Any) -> Any:
    """Return the round's regret of one notion."""
    known = info["regret"]
    if notion not in known:
        listing = choices(notion, known) if known else "it knows none, so there is no such reward"
        raise UserError(f"notion={notion!r} is no regret that {world.view().world} knows: {listing}")
    return known[notion]
