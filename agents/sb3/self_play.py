"""PPO or A2C by self-play in the loop of `act` and `update`: an agent that learns from labels like the others.

Stable-Baselines3's `learn` owns its environment and cannot wait for labels. Its `train` can: it reads a rollout buffer.
With gamma = 0 a transition needs no successor, so labelled duels are collected in any order, and after `rollout` of
them the buffer is filled, trained on and emptied.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from duelenv.agents.base import Metrics
from duelenv.agents.sb3 import PPOSettings, SelfPlaySettings
from duelenv.agents.sb3.agent import SB3Agent
from duelenv.agents.sb3.policy import EquivariantPolicy
from duelenv.agents.sb3.training import algorithm_class, seeded
from duelenv.agents.sb3.vec_env import check_single, feature_space
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground.randomness import stream


class SelfPlayAgent(SB3Agent):
    """Learns a policy of single arms from the labels of its own duels; each is two transitions.

    Args:
        view: What the agent may know of its environment: one replicate, with features.
        seed: Root of its streams.
        settings: What both algorithms read.
        ppo: What PPO reads besides; None for A2C.

    Raises:
        UserError: A world of several replicates or without features.
    """

    def __init__(self, view: AgentView, seed: int, settings: SelfPlaySettings, ppo: PPOSettings | None) -> None:
        check_single(view)
        self.settings = settings
        self._ppo = ppo
        self._seed = seed
        self._updates = 0
        super().__init__(self._new_model(view), view, seed)
        self._forget()

    def _new_model(self, view: AgentView) -> OnPolicyAlgorithm:
        options: dict[str, Any] = {
            "learning_rate": self.settings.learning_rate,
            "ent_coef": self.settings.entropy,
            "policy_kwargs": {"width": self.settings.width},
            "gamma": 0.0,
            "device": "cpu",
        }
        ppo = self._ppo
        if ppo is None:
            options |= {"use_rms_prop": False, "normalize_advantage": True}
        else:
            options |= {"n_epochs": ppo.epochs, "batch_size": ppo.batch_size, "clip_range": ppo.clip_range}
        # Made as Stable-Baselines3 makes a loaded model: without an environment, its spaces given.
        kind = algorithm_class(self.settings.algorithm)
        model = kind(EquivariantPolicy, None, _init_setup_model=False, **options)  # type: ignore[arg-type]
        model.observation_space = feature_space(view)
        model.action_space = spaces.Discrete(view.num_candidates)
        model.n_envs = 1
        model.set_logger(Logger(folder=None, output_formats=[]))
        with self._generators():
            model._setup_model()
        return model

    def _generators(self) -> Any:
        """Seed what Stable-Baselines3 draws for the next update, so that a resumed run draws the same."""
        return seeded(int(stream(self._seed, "agents/sb3/train", self._updates).integers(2**32)))

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        labelled = ~np.isnan(labels)
        features = np.asarray(observation["features"], np.float32)[labelled]
        for slot, rewards in ((0, labels[labelled]), (1, 1.0 - labels[labelled])):
            self._features.append(features)
            self._arms.append(actions[labelled, slot])
            self._rewards.append(rewards.astype(np.float32))
        if sum(map(len, self._rewards)) < 2 * self.settings.rollout:
            return {}
        return self._train()

    def _train(self) -> Metrics:
        model = self.model
        assert isinstance(model, OnPolicyAlgorithm)
        features, arms, rewards = self._collected()
        count = len(rewards)
        # The policy did not change since these were drawn, except for late labels, which count as drawn now.
        with torch.no_grad():
            values, log_prob, _ = model.policy.evaluate_actions(torch.from_numpy(features), torch.from_numpy(arms))
        buffer = RolloutBuffer(1, model.observation_space, model.action_space, "cpu", gamma=0.0, n_envs=count)
        buffer.add(features, arms, rewards, np.ones(count), values, log_prob)
        buffer.compute_returns_and_advantage(last_values=torch.zeros(count), dones=np.ones(count))
        model.rollout_buffer = buffer
        with self._generators():
            model.train()
        self._updates += 1
        self.gradient_steps += self._steps_of(count)
        self._forget()
        logged = model.logger.name_to_value
        names = {"value_loss": "train/value_loss", "entropy_loss": "train/entropy_loss"}
        return {name: float(logged[key]) for name, key in names.items()} | {"updates": self._updates}

    def _steps_of(self, count: int) -> int:
        """Return the optimiser steps of an update on `count` transitions."""
        return 1 if self._ppo is None else self._ppo.epochs * -(-count // self._ppo.batch_size)

    def _collected(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        return np.concatenate(self._features), np.concatenate(self._arms), np.concatenate(self._rewards)

    def _forget(self) -> None:
        """Empty the rollout; each list starts with nothing of the right shape."""
        self._features: list[NDArray[np.float32]] = [np.empty((0, *feature_space(self.view).shape), np.float32)]
        self._arms: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._rewards: list[NDArray[np.float32]] = [np.empty(0, np.float32)]

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser, the rollout so far and the streams."""
        features, arms, rewards = self._collected()
        return super().state_dict() | {
            "model": copy.deepcopy(self.model.get_parameters()),
            "updates": self._updates,
            "gradient_steps": self.gradient_steps,
            "rollout": {"features": features, "arms": arms, "rewards": rewards},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        # Torch takes the moments over as they are, and would go on changing the caller's.
        self.model.set_parameters(copy.deepcopy(dict(state["model"])), device="cpu")
        self._updates = int(state["updates"])
        self.gradient_steps = int(state["gradient_steps"])
        rollout = state["rollout"]
        self._features, self._arms = [np.array(rollout["features"])], [np.array(rollout["arms"])]
        self._rewards = [np.array(rollout["rewards"])]
