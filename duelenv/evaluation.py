"""Judging an agent on any form of a world: vector or scalar, bare or in wrappers. What is measured, worlds decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from numpy.typing import NDArray

from duelenv.core import SPLITS, Observation, Recommender
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["evaluate", "seen_through"]


def evaluate(
    env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], agent: Recommender, split: str = "test"
) -> dict[str, Any]:
    """Judge an agent on contexts of their own stream, which is the same at every call and costs no query.

    Wrappers stay as they are: no round is played, and no reward is seen. Those that change observations, Gymnasium's
    `ObservationWrapper` and `VectorObservationWrapper`, change what the agent is shown here as well; running statistics
    stand still meanwhile.

    Args:
        env: A world of this package, scalar or vector, in any wrappers, after its first `reset`.
        agent: Anything with `recommend`, that takes observations as `env` gives them.
        split: "test" for held-out contexts, "train" for those that duels are drawn from.

    Returns:
        Metrics by plain names: floats of a scalar world, float64 [replicates] of a vector world. See
        `DuelVectorEnv.evaluate`.

    Raises:
        UserError: No world of this package, several scalar worlds side by side, no agent, an unknown split, or a
            wrapper whose observations cannot be made of one context alone.

    Example:
        >>> import gymnasium, duelenv
        >>> env = gymnasium.make("duelenv/FeatureDuel-v0", num_candidates=4, dim=3)
        >>> agent = duelenv.agents.make("thompson", env, seed=0)
        >>> observation, info = env.reset(seed=0)
        >>> sorted(duelenv.evaluate(env, agent))[-2:]
        ['simple_regret', 'win_rate_best_of_n']
    """
    world = getattr(env, "unwrapped", None)
    if not isinstance(world, DuelEnv | DuelVectorEnv):
        inside = getattr(world, "envs", None)
        advice = "pass one made with gymnasium.make or gymnasium.make_vec"
        if inside and isinstance(inside[0].unwrapped, DuelEnv):
            advice = (
                "make the world's own vector form, gymnasium.make_vec(..., vectorization_mode='vector_entry_point')"
            )
        elif hasattr(agent, "unwrapped"):
            advice = "write evaluate(env, agent), the environment first"
        raise UserError(f"evaluate needs a duelenv environment, scalar or vector, got {env!r}; {advice}")
    if not callable(getattr(agent, "recommend", None)):
        name = agent if isinstance(agent, str) else "passive"
        raise UserError(
            f"agent is {agent!r}, expected something with a method 'recommend'; make one, such as "
            f"duelenv.agents.make({name!r}, env)"
        )
    checks.one_of("split", split, SPLITS)
    changing = _observation_wrappers(env)
    metrics: dict[str, Any] = world.evaluate(_Behind(changing, agent) if changing else agent, split)
    return metrics


def seen_through(env: Any, observation: Any) -> Any:
    """Return an observation of a world's own as the wrappers around it show it.

    Raises:
        UserError: A wrapper whose observations cannot be made of one context alone.
    """
    return _through(_observation_wrappers(env), observation)


def _observation_wrappers(env: Any) -> list[Any]:
    """Return the wrappers that change observations, the innermost first."""
    found: list[Any] = []
    while isinstance(env, gymnasium.Wrapper | gymnasium.vector.VectorWrapper):
        if isinstance(env, gymnasium.ObservationWrapper | VectorObservationWrapper):
            found.insert(0, env)
        elif env.observation_space is not env.env.observation_space:
            raise UserError(
                f"evaluate got an environment in {type(env).__name__}, whose observations depend on the rounds before; "
                "judge with evaluate(env.unwrapped, agent) an agent that takes the world's own observations"
            )
        env = env.env
    return found


class _Behind:
    """An agent that sees the world through wrappers, the innermost first."""

    def __init__(self, wrappers: Sequence[Any], agent: Recommender) -> None:
        self._wrappers, self._agent = wrappers, agent

    def recommend(self, observation: Observation) -> NDArray[np.int64]:
        return self._agent.recommend(_through(self._wrappers, observation))

    def believed(self, observation: Observation, num_samples: int) -> NDArray[Any] | None:
        """Return nothing: what it believes is of observations through the wrappers, and rows are asked about bare."""
        return None


def _through(wrappers: Sequence[Any], observation: Any) -> Any:
    """Pass an observation through wrappers; running statistics stand still."""
    for wrapper in wrappers:
        running = getattr(wrapper, "update_running_mean", None)
        if running is not None:
            wrapper.update_running_mean = False
        try:
            vector = isinstance(wrapper, VectorObservationWrapper)
            observation = wrapper.observations(observation) if vector else wrapper.observation(observation)
        finally:
            if running is not None:
                wrapper.update_running_mean = running
    return observation
