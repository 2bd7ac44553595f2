"""The vector worlds as Stable-Baselines3's `VecEnv`: on labels by self-play, or privileged on regret.

Both show the candidates' features float32 [K, d] and nothing else. A world with `autoreset_mode` DISABLED ends all rows
together; here the next episode starts by itself, and the row's last observation stands in `info` under
"terminal_observation" with "TimeLimit.truncated": the horizon cuts the run and is no terminal state, so algorithms with
gamma > 0 go on from that observation's value.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from duelenv.core import AgentView, Observation
from duelenv.ground.errors import UserError
from duelenv.rewards import RegretReward
from duelenv.vector import DuelVectorEnv

Arms = NDArray[np.int64]
Rewards = NDArray[np.float64]


class _DuelVecEnv(VecEnv):
    """What both forms share: episodes, seeds and the observation.

    Args:
        env: A vector world, wrapped or not.
        actors: Policy rows of each of the world's rows.

    Attributes:
        env: The world.
        view: What may be known of it.
        duel_info: The world's `info` of the last round, for callbacks that measure regret.
    """

    actors: int

    def __init__(self, env: VectorEnv[Any, Any, Any], action_space: spaces.Space[Any]) -> None:
        self.env = env
        self.view = view_of(env)
        self.duel_info: dict[str, Any] = {}
        self._actions: Arms | None = None
        super().__init__(self.actors * self.view.num_envs, feature_space(self.view), action_space)

    @abstractmethod
    def _duel(self, actions: Arms) -> tuple[Observation, Rewards, bool, dict[str, Any]]:
        """Play a round; return the world's observation, a reward per policy row, whether it was the last, and info."""

    def reset(self) -> NDArray[np.float32]:
        """Start an episode; after `seed(s)` the world is drawn anew from s, otherwise it keeps its truth."""
        observation, self.duel_info = self.env.reset(seed=self._seeds[0], options=self._options[0])
        self._reset_seeds()
        self._reset_options()
        return self._show(observation)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the policy rows' actions."""
        self._actions = np.asarray(actions, np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Play the round.

        Returns:
            Features [num_envs, K, d], rewards float32 [num_envs], dones, and an info for each policy row.
        """
        if self._actions is None:
            raise UserError("step_wait was called before step_async; call step(actions)")
        observation, rewards, over, self.duel_info = self._duel(self._actions)
        self._actions = None
        shown = self._show(observation)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over:
            infos = [{"terminal_observation": last, "TimeLimit.truncated": True} for last in shown]
            shown = self._show(self.env.reset()[0])
        return shown, rewards.astype(np.float32), np.full(self.num_envs, over), infos

    def close(self) -> None:
        self.env.close()

    # The rows are one world: an attribute or method is the world's, and every row gives the same answer.

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the world's attribute once for each of the rows."""
        value = getattr(self.env.unwrapped, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute of the world that all rows share."""
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the world's method once, and return its value for each of the rows."""
        value = getattr(self.env.unwrapped, method_name)(*method_args, **method_kwargs)
        return [value for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Say False for each row: scalar wrappers do not fit around a vector world."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """Show nothing: there is nothing to be seen."""
        return [None] * self.num_envs

    def _show(self, observation: Observation) -> NDArray[np.float32]:
        features = np.asarray(observation["features"], np.float32)
        return np.concatenate([features] * self.actors)  # its own memory, also for one actor

    def _step(self, pairs: Arms) -> tuple[Observation, Any, bool, dict[str, Any]]:
        if self.view.selective:
            pairs = np.column_stack([pairs, np.ones(len(pairs), np.int64)])  # policy gradients learn from every duel
        observation, rewards, _, truncated, info = self.env.step(pairs)
        return observation, rewards, bool(truncated[0]), info


class SelfPlayVecEnv(_DuelVecEnv):
    """One policy against itself, on labels alone: 2N policy rows play the N duels of a round.

    The policy's action is a single arm, `Discrete(K)`. Policy rows n and N + n both see the world's row n; row n names
    the first arm of its duel and row N + n the second. Row n is paid the label, row N + n is paid 1 - label: the two
    transitions of one query. A declared tie pays both 1/2; so does a duel without a label, because 1/2 is the value
    of self-play in every context, and its advantage is then the critic's error only.

    Args:
        env: A vector world of one replicate (`batch=num_envs`) with features.

    Raises:
        UserError: `env` is no such world, or a wrapper holds its labels back: nobody would pay them to their duels.

    Example:
        >>> import gymnasium, duelenv
        >>> world = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=8, batch=8, num_candidates=4, dim=3)
        >>> env = SelfPlayVecEnv(world)
        >>> env.num_envs, env.action_space, env.reset().shape
        (16, Discrete(4), (16, 4, 3))
    """

    actors = 2

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env, spaces.Discrete(view_of(env).num_candidates))
        if self.view.late:
            raise UserError(
                f"self-play pays a label in the round of its duel, and in this {self.view.world} labels can come late; "
                "leave out stages that hold labels back, and sources that answer later"
            )

    def _duel(self, actions: Arms) -> tuple[Observation, Rewards, bool, dict[str, Any]]:
        observation, labels, over, info = self._step(actions.reshape(2, -1).T)  # (2N) -> (N, 2)
        labels = np.where(np.isnan(labels), 0.5, labels)
        return observation, np.concatenate([labels, 1.0 - labels]), over, info


class PrivilegedVecEnv(_DuelVecEnv):
    """PRIVILEGED: the policy names pairs, `MultiDiscrete([K, K])`, and is paid minus their regret (`RegretReward`).

    Args:
        env: A vector world of one replicate (`batch=num_envs`) with features, whose regret is known.
        notion: The regret's name.

    Raises:
        UserError: `env` is no such world; or, at the first step, it does not know the notion.
    """

    actors = 1

    def __init__(self, env: VectorEnv[Any, Any, Any], notion: str = "average") -> None:
        num_candidates = view_of(env).num_candidates
        super().__init__(RegretReward(env, notion), spaces.MultiDiscrete([num_candidates, num_candidates]))

    def _duel(self, actions: Arms) -> tuple[Observation, Rewards, bool, dict[str, Any]]:
        return self._step(actions)


def view_of(env: VectorEnv[Any, Any, Any]) -> AgentView:
    """Return the view of a vector world that one Stable-Baselines3 policy can learn.

    Raises:
        UserError: Not a vector world, or several replicates.
    """
    world = env.unwrapped
    if not isinstance(world, DuelVectorEnv):
        raise UserError(f"Stable-Baselines3 needs a vector world here, got {env}; make one with gymnasium.make_vec")
    view = world.view()
    check_single(view)
    return view


def check_single(view: AgentView) -> None:
    """Raise `UserError` for several replicates, whose truths differ and which one policy would average."""
    if view.replicates > 1:
        raise UserError(
            f"one Stable-Baselines3 policy learns one hidden truth, and num_envs={view.num_envs} with "
            f"batch={view.batch} are {view.replicates}; make the world with batch={view.num_envs}"
        )


def feature_space(view: AgentView) -> spaces.Box:
    """Return the space of one row's features [K, d].

    Raises:
        UserError: A world without features.
    """
    space = view.observation_space.spaces.get("features")
    if not isinstance(space, spaces.Box):
        raise UserError(f"Stable-Baselines3 needs candidates' features, and {view.world} shows none; give it features")
    return space
