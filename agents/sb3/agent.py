"""Any trained Stable-Baselines3 model as an agent: it plays and recommends, and learns nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.roles import equal_texts
from duelenv.agents.sb3.policy import candidates_shape, named_arms
from duelenv.agents.sb3.vec_env import feature_space
from duelenv.agents.selection import apart, draw, rivals
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams


class SB3Agent(Agent):
    """Plays a trained model; `update` does nothing and returns {}.

    A model of single arms (self-play) draws both arms of a duel independently; one of pairs draws the pair. Models
    with an actor draw by their probabilities from streams of the agent's own, one per row; value-based ones such as
    DQN play their greedy arm.

    Args:
        model: A Stable-Baselines3 model whose observations are `features` [K, d] (alone or in a `Dict`) and whose
            actions are `Discrete(K)` or `MultiDiscrete([K, K])`.
        view: What the agent may know of its environment.
        seed: Root of its streams.
        deterministic: Play the likeliest arms instead of drawing.

    Raises:
        UserError: The model's spaces do not fit the world's.
    """

    def __init__(self, model: BaseAlgorithm, view: AgentView, seed: int = 0, *, deterministic: bool = False) -> None:
        super().__init__(view)
        expected = feature_space(view).shape
        observation_space, action_space = model.observation_space, model.action_space
        assert observation_space is not None and action_space is not None
        trained = candidates_shape(observation_space)
        if trained != expected:
            raise UserError(
                f"the model was trained on features of shape {trained}, and {view.world} shows {expected}; "
                "train one on such a world"
            )
        self.model = model
        self.deterministic = deterministic
        self._slots = named_arms(action_space, view.num_candidates)
        self._in_dict = isinstance(observation_space, spaces.Dict)
        self._streams = RowStreams(seed, "agents/sb3", view.num_envs)

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """Return the actor's probabilities, float64 [N, 2, K], of both arms; None for a model without an actor."""
        policy = self.model.policy
        if not isinstance(policy, ActorCriticPolicy):
            return None
        policy.set_training_mode(False)
        with torch.no_grad():
            distribution = policy.get_distribution(policy.obs_to_tensor(self._shown(observation))[0]).distribution
        slots: list[Any] = distribution if isinstance(distribution, list) else [distribution] * 2
        return np.stack([slot.probs.double().cpu().numpy() for slot in slots], axis=1)

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        uniforms = self._streams.uniform(2)[:, :, np.newaxis]
        probabilities = self.probabilities(observation)
        if probabilities is None:
            pairs = self._greedy(observation)
        elif self.deterministic:
            pairs = probabilities.argmax(axis=2)
        else:
            cumulative = probabilities.cumsum(axis=2)
            pairs = (cumulative[:, :, :-1] <= uniforms * cumulative[:, :, -1:]).sum(axis=2)
        groups = equal_texts(self.view, observation)
        if groups is not None:
            pairs = self._apart(pairs, groups, probabilities, uniforms[:, 1, 0])
        if self.view.selective:
            return np.column_stack([pairs, np.ones(len(pairs), np.int64)])
        return pairs

    def _apart(
        self, pairs: Pairs, groups: NDArray[np.int64], probabilities: NDArray[np.float64] | None, u: NDArray[np.float64]
    ) -> Pairs:
        """Take another second arm where it may not meet the first: as the actor says, or any alike without one."""
        if probabilities is not None and self.deterministic:
            return apart(pairs, probabilities[:, 1], groups)
        others = rivals(pairs[:, 0], self.view.num_candidates, groups)
        weights = others.astype(float) if probabilities is None else others * probabilities[:, 1]
        second = draw(np.where(weights.any(axis=1, keepdims=True), weights, others), u)
        meets = others[np.arange(len(pairs)), pairs[:, 1]]
        return np.column_stack([pairs[:, 0], np.where(meets, pairs[:, 1], second)])

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        return {}

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        probabilities = self.probabilities(observation)
        if probabilities is None:
            return self._greedy(observation)[:, 0]
        return probabilities.sum(axis=1).argmax(axis=1)

    def _greedy(self, observation: Observation) -> Pairs:
        arms, _ = self.model.predict(self._shown(observation), deterministic=True)
        return np.broadcast_to(np.asarray(arms, np.int64).reshape(len(arms), -1), (len(arms), 2)).copy()

    def _shown(self, observation: Observation) -> Any:
        features = np.asarray(observation["features"], np.float32)
        return {"features": features} if self._in_dict else features

    def state_dict(self) -> dict[str, Any]:
        """Return where the streams are; the model is given at construction and does not change."""
        return {"streams": self._streams.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._streams.load_state_dict(state["streams"])
