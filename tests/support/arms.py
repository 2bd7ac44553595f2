"""The K-armed agents and small worlds for them."""

from __future__ import annotations

import gymnasium
import numpy as np

from duelenv.oracles.matrices import bradley_terry

NAMES = [
    "random",
    "rucb",
    "rmed1",
    "rmed2",
    "rmed2fh",
    "dts",
    "dts_plus",
    "sparring",
    "multisbm",
    "btm",
    "interleaved_filter",
    "savage",
    "winner_stays",
    "versatile",
    "mergerucb",
    "ccb",
    "scb",
]
SIMULTANEOUS = ["random", "rucb", "dts", "dts_plus"]
# These learn from a duel about its first arm, or as two players: the order of the pair is part of what they know.
ORDERED = ["sparring", "multisbm", "btm", "versatile"]
MATRIX = bradley_terry([1.5, 0.8, 0.5, 0.0, -0.5])
CLEAR = bradley_terry([3.0, 1.0, 0.0, -1.0])
# Without a Condorcet winner: the first three arms beat each other in a circle, and all of them beat the last two.
INTRANSITIVE = np.array(
    [
        [0.5, 0.8, 0.3, 0.9, 0.8],
        [0.2, 0.5, 0.7, 0.9, 0.8],
        [0.7, 0.3, 0.5, 0.9, 0.2],
        [0.1, 0.1, 0.1, 0.5, 0.4],
        [0.2, 0.2, 0.8, 0.6, 0.5],
    ]
)


def world(matrix=MATRIX, rows=8, horizon=200, **settings):
    return gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=rows, matrix=matrix, horizon=horizon, **settings)


def play(env, agent, rounds, seed=0, notion="average"):
    """Plays the usual loop; returns the actions [T, N, 2] and the regrets [T, N]."""
    observation, _ = env.reset(seed=seed)
    chosen, regrets = [], []
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
        chosen.append(actions)
        regrets.append(info["regret"][notion])
    return np.array(chosen), np.array(regrets)
