"""A pool whose texts say where they stand, and PoolDuel made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from duelenv.data import Pool
from duelenv.worlds.pool_duel import PoolDuelVectorEnv

PROMPTS, RESPONSES = 40, 5


def make_pool(seed: int = 0, responders: bool = True) -> Pool:
    """Texts that name their place, "prompt/slot", so that tests can look the truth up."""
    generator = np.random.default_rng(seed)
    texts = [[f"{p}/{k}" + " word" * int(generator.integers(9)) for k in range(RESPONSES)] for p in range(PROMPTS)]
    utilities = generator.normal(size=(PROMPTS, RESPONSES)) + np.arange(RESPONSES)  # the last slot is best
    names = np.array([[f"model {k}" for k in range(RESPONSES)]] * PROMPTS, dtype=object)
    return Pool(tuple(f"prompt {p}" for p in range(PROMPTS)), texts, utilities, names if responders else None)


POOL = make_pool()
FEATURES = np.random.default_rng(1).normal(size=(PROMPTS, RESPONSES, 3)).astype(np.float32)


def make(num_envs: int = 8, **settings: Any) -> PoolDuelVectorEnv:
    return PoolDuelVectorEnv(**{"data": POOL, "features": FEATURES, "num_envs": num_envs, "horizon": 100} | settings)


def play(env: PoolDuelVectorEnv, rounds: int, seed: int = 0) -> list[tuple[Any, np.ndarray, dict[str, Any]]]:
    """Play fixed actions and return what was seen before each, the labels and the infos."""
    observation, _ = env.reset(seed=seed)
    actions = np.random.default_rng(5).integers(0, env.num_candidates, (rounds, 64, 2))[:, : env.num_envs]
    record = []
    for action in actions:
        following, labels, _, _, info = env.step(action)
        record.append((observation, labels, info))
        observation = following
    return record
