"""What all ask rules have in common."""

import numpy as np
import pytest
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv.agents.asking import ASK

ROWS = 400
#: Rules that look at a policy, or at who drew a candidate; those that are not here are in test_asking_of_policy.
NEED_POLICY = ("against_recorded", "against_reference", "gradient_distance", "implicit_gap", "offline", "pilaf")


def shares(pairs, better):
    """How often the first candidate has the lower number, and how often it is the one believed better."""
    return (pairs[:, 0] < pairs[:, 1]).mean(), better.mean()


@pytest.mark.parametrize("ask", [name for name in ASK if name not in NEED_POLICY])
def test_the_position_of_a_candidate_tells_nothing(ask):
    """An oracle with a bias for a position, or a learner with one, must not meet the same kind of candidate there."""
    env = make_vector("duelenv/FeatureDuel-v0", ROWS, batch=ROWS, num_candidates=5, dim=3, horizon=9)
    agent = duelenv.agents.make("composed", env, seed=0, ask=ask)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    following, labels, *_, info = env.step(actions)
    labels[4:] = np.nan  # so that draws differ still
    agent.update(observation, actions, labels, info["late"])
    observation = following
    pairs = agent.act(observation)
    apart = pairs[:, 0] != pairs[:, 1]
    mean = agent.belief.mean(observation["features"])
    rows = np.arange(ROWS)
    found = shares(pairs[apart], (mean[rows, pairs[:, 0]] > mean[rows, pairs[:, 1]])[apart])
    assert apart.sum() > 100
    assert max(abs(share - 0.5) for share in found) < 4 * 0.5 / np.sqrt(apart.sum())  # four deviations


def test_nor_does_it_where_policy_and_reference_duel():
    env = make_vector(
        "duelenv/AlignmentDuel-v0", 64, policy=tiny_policy(), num_candidates=None, sources={"policy": 1, "reference": 1}
    )
    agent = duelenv.agents.make("composed", env, seed=0, ask="against_reference")
    observation, _ = env.reset(seed=0)
    first = np.concatenate([agent.act(observation)[:, 0] for _ in range(5)])
    assert abs(first.mean() - 0.5) < 0.12
