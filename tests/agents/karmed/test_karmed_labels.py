"""The K-armed algorithms: which labels count, and as what."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from arms import NAMES, SIMULTANEOUS, play, world

import duelenv
import duelenv.agents
from duelenv.agents.karmed.counts import WinCounts
from duelenv.agents.karmed.versatile import tsallis_weights


def test_counts_ties_and_what_counts_nowhere():
    counts = WinCounts(replicates=2, num_arms=3)
    first, second = np.array([0, 1, 2, 0, 0]), np.array([1, 0, 2, 1, 1])
    replicates = np.array([0, 0, 0, 1, 1])
    counted = counts.add(replicates, first, second, np.array([1.0, 0.5, 1.0, np.nan, 0.0]))
    assert counts.wins[0].tolist() == [[0, 1.5, 0], [0.5, 0, 0], [0, 0, 0]]
    assert counts.wins[1].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert counted.first.tolist() == [0, 1, 0] and counted.replicates.tolist() == [0, 0, 1]
    assert counts.flat[counted.forward].tolist() == [1.5, 0.5, 0]


def test_the_leader_has_most_points_then_the_larger_share():
    counts = WinCounts(replicates=3, num_arms=3)
    counts.wins[0] = [[0, 1, 1], [9, 0, 2], [8, 9, 0]]  # 2 beats both
    counts.wins[1] = [[0, 5, 1], [1, 0, 3], [3, 1, 0]]  # a circle: 6 / 10, 4 / 10 and 4 / 8
    assert counts.leader().tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_label_teaches_nothing(name):
    env = world(rows=3)
    agent = duelenv.agents.make(name, env, seed=0)
    observation, _ = env.reset(seed=0)
    play(env, agent, 20)
    before = agent.state_dict()
    agent.update(observation, np.array([[0, 1], [2, 3], [4, 0]]), np.full(3, np.nan))
    after = agent.state_dict()
    np.testing.assert_array_equal(after["wins"], before["wins"])
    for key, array in before["arrays"].items():
        np.testing.assert_array_equal(after["arrays"][key], array, err_msg=key)


@pytest.mark.parametrize("name", ["rucb", "rmed1", "dts", "savage"])
def test_a_duel_of_an_arm_with_itself_counts_nowhere(name):
    env = world(rows=1)
    agent = duelenv.agents.make(name, env, seed=0)
    observation, _ = env.reset(seed=0)
    before = agent.state_dict()
    agent.update(observation, np.array([[2, 2]]), np.array([1.0]))
    after = agent.state_dict()
    np.testing.assert_array_equal(after["wins"], before["wins"])
    for key, array in before["arrays"].items():
        np.testing.assert_array_equal(after["arrays"][key], array, err_msg=key)


@pytest.mark.parametrize("name", SIMULTANEOUS)
def test_a_batch_counts_all_its_rows(name):
    env = world(rows=12, batch=4, horizon=50)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, _ = play(env, agent, 50)
    different = (chosen[:, :, 0] != chosen[:, :, 1]).sum(axis=0).reshape(3, 4).sum(axis=1)
    np.testing.assert_array_equal(agent.counts.wins.sum(axis=(1, 2)), different)
    assert agent.duels == 4 * 50 + 1
    assert agent.recommend({}).reshape(3, 4).std(axis=1).max() == 0  # one learner, one recommendation


def test_a_selective_world_is_always_asked():
    env = world(rows=4, selective=True)
    actions, _ = play(env, duelenv.agents.make("rucb", env, seed=0), 30)
    assert actions.shape == (30, 4, 3) and (actions[:, :, 2] == 1).all()


def test_fixed_features_are_arms():
    env = gymnasium.make_vec(
        "duelenv/FeatureDuel-v0", num_envs=12, num_candidates=4, dim=3, scale=8.0, fixed=True, horizon=600
    )
    agent = duelenv.agents.make("dts", env, seed=0)
    _, regrets = play(env, agent, 600)
    assert regrets[-100:].mean() < 0.3 * regrets[:50].mean()
    assert env.unwrapped.evaluate(agent)["win_rate_best_of_n"].mean() > 0.6


def test_tsallis_weights_solve_their_equation():
    losses = np.random.default_rng(0).exponential(50, size=(40, 7))
    for rate in (4.0, 0.2, 0.01):
        weights = tsallis_weights(losses, rate)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
        normaliser = losses - 2.0 / (rate * np.sqrt(weights))  # x is the same for every arm
        np.testing.assert_allclose(normaliser, normaliser[:, :1] * np.ones(7), rtol=1e-8)
        assert (np.argsort(weights, axis=1) == np.argsort(-losses, axis=1)).all()


def test_random_duels_are_the_baseline_of_every_world():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=6, batch=3, num_candidates=4, dim=3, horizon=30)
    actions, _ = play(env, duelenv.agents.make("random", env, seed=0), 30, notion="utility")
    assert set(actions.reshape(-1).tolist()) == {0, 1, 2, 3}
    view = replace(world().unwrapped.view(), world="duelenv/AlignmentDuel-v0")
    assert duelenv.agents.make("random", view).act({}).shape == (8, 2)
