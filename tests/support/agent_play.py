"""The usual loop, and agents in small worlds with a policy."""

import numpy as np
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents

ALIGNMENT = "duelenv/AlignmentDuel-v0"
FOUR = ("passive", "real", "selm", "thompson")
BOTH_SIDES = {"sources": {"policy": 3, "reference": 3}, "num_candidates": None}


def play(env, agent, rounds, seed=0):
    """Plays the usual loop; returns labels, regrets and the metrics of the last update."""
    observation, _ = env.reset(seed=seed)
    labels, regrets, metrics = [], [], {}
    for _ in range(rounds):
        actions = agent.act(observation)
        following, label, _, _, info = env.step(actions)
        metrics = agent.update(observation, actions, label)
        observation = following
        labels.append(label)
        regrets.append(info["regret"].get("utility", np.nan))
    return np.array(labels), np.array(regrets), metrics


def alignment(name, num_envs=4, oracle=None, **settings):
    policy = tiny_policy()
    world = {} if oracle is None else {"oracle": oracle}
    if name == "selm":
        world |= BOTH_SIDES
    env = make_vector(ALIGNMENT, num_envs, policy=policy, horizon=20, **world)
    return env, duelenv.agents.make(name, env, **settings)


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])
