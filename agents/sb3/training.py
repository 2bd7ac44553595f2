"""Trains PPO or A2C on a vector world with Stable-Baselines3's own loop, by self-play or privileged.

For agents that learn in the loop of `act` and `update`, see `sb3_self_play`.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from duelenv.agents.sb3 import check_algorithm
from duelenv.agents.sb3.policy import EquivariantPolicy
from duelenv.agents.sb3.vec_env import PrivilegedVecEnv, SelfPlayVecEnv
from duelenv.ground import checks

_ROLLOUT = 128
"""Transitions between two updates; with gamma = 0 a rollout has no length of its own, and short ones waste few."""

_OURS = ("policy", "env", "gamma", "seed", "_init_setup_model")


def train_self_play(
    env: VectorEnv[Any, Any, Any],
    *,
    total_duels: int,
    algorithm: str = "ppo",
    seed: int = 0,
    gamma: float = 0.0,
    **settings: Any,
) -> OnPolicyAlgorithm:
    """Train a policy of single arms on labels, by self-play; each duel is a query of the world.

    Reset the world with a seed first: training keeps its truth and starts new episodes. `SB3Agent(model, view)` plays
    the result.

    Args:
        env: A vector world of one replicate with features.
        total_duels: Duels to play, rounded up to whole rollouts of `n_steps` rounds.
        algorithm: "ppo" or "a2c".
        seed: Of the network's weights, the actions and the minibatches; not of the world.
        gamma: Discount. Rounds of a bandit are unrelated, so anything but 0 adds their noise to every return.
        **settings: Arguments of Stable-Baselines3's `PPO` or `A2C` that replace the defaults here.

    Returns:
        The trained model.

    Raises:
        UserError: An unknown algorithm or setting, or a world that does not fit.
    """
    return _train(SelfPlayVecEnv(env), total_duels, algorithm, seed, gamma, settings)


def train_privileged(
    env: VectorEnv[Any, Any, Any],
    *,
    total_duels: int,
    algorithm: str = "ppo",
    seed: int = 0,
    gamma: float = 0.0,
    notion: str = "average",
    **settings: Any,
) -> OnPolicyAlgorithm:
    """Train a policy of pairs on minus the regret. PRIVILEGED: no agent that learns from labels can see it.

    Args:
        env: A vector world of one replicate with features, whose regret is known.
        total_duels: As in `train_self_play`.
        algorithm: As in `train_self_play`.
        seed: As in `train_self_play`.
        gamma: As in `train_self_play`.
        notion: The regret's name.
        **settings: As in `train_self_play`.

    Returns:
        The trained model.

    Raises:
        UserError: As in `train_self_play`; or the world does not know the notion.
    """
    return _train(PrivilegedVecEnv(env, notion), total_duels, algorithm, seed, gamma, settings)


def _train(
    vec_env: SelfPlayVecEnv | PrivilegedVecEnv,
    total_duels: int,
    algorithm: str,
    seed: int,
    gamma: float,
    settings: dict[str, Any],
) -> OnPolicyAlgorithm:
    checks.integer("total_duels", total_duels, low=1)
    checks.integer("seed", seed, low=0)
    checks.number("gamma", gamma, low=0.0, high=1.0)
    kind = algorithm_class(algorithm)
    known = [name for name in inspect.signature(kind).parameters if name not in _OURS]
    checks.refuse_unknown(kind.__name__, settings, known)
    n_steps = -(-_ROLLOUT // vec_env.num_envs)
    chosen: dict[str, Any] = {"n_steps": n_steps, "learning_rate": 3e-3, "device": "cpu"} | settings
    if algorithm == "ppo":
        chosen = {"batch_size": chosen["n_steps"] * vec_env.num_envs, "n_epochs": 4} | chosen
    else:
        chosen = {"use_rms_prop": False, "normalize_advantage": True} | chosen
    with seeded(seed):
        model = kind(EquivariantPolicy, vec_env, gamma=gamma, **chosen)
        if not (chosen.get("verbose") or chosen.get("tensorboard_log")):
            # Where nobody wants its log, its own logger leaves an empty folder among the temporary files.
            model.set_logger(Logger(folder=None, output_formats=[]))
        model.learn(total_duels * vec_env.actors)
    return model


def algorithm_class(algorithm: str) -> type[PPO] | type[A2C]:
    """Return Stable-Baselines3's class of an algorithm's name."""
    check_algorithm(algorithm)
    return PPO if algorithm == "ppo" else A2C


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that Stable-Baselines3 draws from, and put them back as they were afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what it draws from)
    words = np.random.SeedSequence(seed).generate_state(3)
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(int(words[0]))
            np.random.seed(words[1])  # noqa: NPY002
            torch.default_generator.manual_seed(int(words[2]))
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
