"""Small instances of every world, for tests that hold in all of them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

import duelenv
from duelenv.oracles.base import make

MATRIX = np.array(
    [
        [0.5, 0.6, 0.7, 0.8],
        [0.4, 0.5, 0.6, 0.7],
        [0.3, 0.4, 0.5, 0.6],
        [0.2, 0.3, 0.4, 0.5],
    ]
)
PROMPTS = [f"tell me about the {noun}" for noun in "garden river house teacher doctor".split()]
TEST_PROMPTS = ["tell me about the village", "tell me about the market"]
NUMERIC = ("duelenv/MatrixDuel-v0", "duelenv/FeatureDuel-v0")


def tiny_policy(seed: int = 0, max_new_tokens: int = 6) -> Any:
    """A policy with random weights: milliseconds to build, and no two responses alike."""
    from duelenv.policies import CausalLMPolicy, tiny_model

    return CausalLMPolicy(*tiny_model("gpt_neox", seed), max_new_tokens=max_new_tokens)


def agents_on_features() -> list[str]:
    """Names of the agents that play in some world without a policy model."""
    from duelenv.agents import names
    from duelenv.agents.presets import PRESETS

    return [name for name in names() if name not in PRESETS or not PRESETS[name].needs_policy]


def settings_of(world: str, **given: Any) -> dict[str, Any]:
    """Arguments of a small world, these and what it needs besides; without a policy given, a new one each time."""
    if world == "duelenv/MatrixDuel-v0":
        return {"matrix": MATRIX} | given
    if world == "duelenv/FeatureDuel-v0":
        return {"num_candidates": 4, "dim": 3} | given
    if world == "duelenv/PoolDuel-v0":
        return {"data": pool()} | given
    return {
        "policy": given["policy"] if "policy" in given else tiny_policy(),
        "oracle": make("length"),
        "prompts": PROMPTS,
        "test_prompts": TEST_PROMPTS,
        "num_candidates": 4,
    } | given


def pool(num_prompts: int = 20, num_responses: int = 4) -> Any:
    """A pool of short texts with random scores."""
    from duelenv.data import Pool

    rng = np.random.default_rng(0)
    prompts = tuple(f"question {number}" for number in range(num_prompts))
    responses = np.array(
        [[f"answer {a} to {q} " + "x " * a for a in range(num_responses)] for q in range(num_prompts)],
        dtype=object,
    )
    return Pool(prompts, responses, rng.normal(size=(num_prompts, num_responses)))


def make_scalar(world: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """The scalar form, without Gymnasium's own checking wrappers."""
    return gymnasium.make(world, disable_env_checker=True, **settings_of(world, **settings)).unwrapped


def make_vector(world: str, num_envs: int, **settings: Any) -> duelenv.DuelVectorEnv:
    """The vector form."""
    env = gymnasium.make_vec(world, num_envs=num_envs, **settings_of(world, **settings))
    assert isinstance(env, duelenv.DuelVectorEnv)
    return env
