"""The agent that is told the utility: it plays by it, survives a checkpoint, and nobody else can have it."""

import importlib
import sys

import gymnasium
import numpy as np
import pytest

from duelenv import UserError, agents, oracles, policies
from duelenv.testing import CheckFailed, alignment_world, check_agent

ORACLE = {"name": "rare_word", "word": "the", "scale": 3.0}
PROMPTS = ["tell me about the boat", "what is a dog", "why so", "who is there", "is it late"]


def world(**settings):
    oracle = oracles.make("rare_word", word="the", scale=3.0)
    return gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=4,
        policy=policies.toy_policy(seed=0),
        oracle=oracle,
        prompts=PROMPTS,
        num_candidates=5,
        horizon=3,
        **settings,
    )


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Only here: the module registers the agent for the whole process."""
    name = "duelenv.experiments.efficiency.privileged"
    importlib.import_module(name)
    yield
    del sys.modules[name]
    agents.base.AGENTS._parts.pop("perfect_belief")
    agents.parts.BELIEFS._parts.pop("true_utility")


def test_it_duels_the_best_against_the_worst_by_the_truth():
    env = world()
    agent = agents.make("perfect_belief", env, seed=0, oracle=ORACLE, ask="extreme")
    observation, _ = env.reset(seed=0)
    pairs = np.sort(agent.act(observation), axis=1)
    truth = oracles.make("rare_word", word="the", scale=3.0)
    for row in range(4):
        utility = truth.utility([observation["prompt"][row]] * 5, list(observation["responses"][row]))
        gap = abs(utility[pairs[row, 0]] - utility[pairs[row, 1]])
        assert gap == pytest.approx(utility.max() - utility.min())
        assert utility[agent.recommend(observation)[row]] == utility.max()


def test_of_many_prompts_it_asks_those_with_the_largest_gaps():
    env = world(selective=True)
    agent = agents.make("perfect_belief", env, seed=0, oracle=ORACLE, ask="extreme", prompts="gap", asked=2)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    truth = oracles.make("rare_word", word="the", scale=3.0)
    gaps = [
        np.ptp(truth.utility([prompt] * 5, list(responses)))
        for prompt, responses in zip(observation["prompt"], observation["responses"], strict=True)
    ]
    asked = actions[:, 2] == 1
    assert asked.sum() == 2
    assert min(np.array(gaps)[asked]) >= max(np.array(gaps)[~asked])


def test_it_does_what_every_agent_has_to_but_for_learning_what_it_knows():
    told = {"name": "length"}
    # The check of actions, seeds and checkpoints comes before, that of labels, which cannot change a truth, after it.
    with pytest.raises(CheckFailed, match="whatever it was told: it learns nothing"):
        check_agent(
            lambda env, seed: agents.make("perfect_belief", env, seed=seed, oracle=told, teach="best_worst"),
            world=alignment_world,
            replicates=1,
        )


def test_its_policy_learns_from_labels():
    env = world()
    agent = agents.make("perfect_belief", env, seed=0, oracle=ORACLE)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    following, labels, *_, info = env.step(actions)
    agent.update(observation, actions, labels, info["late"])
    assert agent.gradient_steps == 1
    again = agents.make("perfect_belief", world(), seed=0, oracle=ORACLE)
    again.load_state_dict(agent.state_dict())
    assert again.gradient_steps == 1
    np.testing.assert_array_equal(again.act(following), agent.act(following))


def test_what_it_cannot_be_told_is_refused():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, num_candidates=3, dim=2, horizon=2)
    with pytest.raises(UserError, match="this world has none"):
        agents.make("perfect_belief", env, oracle=ORACLE)
    with pytest.raises(UserError, match=r"oracle\.name"):
        agents.make("perfect_belief", world(), oracle={"word": "the"})
