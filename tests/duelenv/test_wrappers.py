"""Gymnasium's wrappers around every world: episodes end alike, rewards stay labels, a missing label is NaN."""

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeReward, RecordEpisodeStatistics, TimeLimit, TransformReward
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation
from gymnasium.wrappers.vector import NormalizeReward as VectorNormalizeReward
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorStatistics
from gymnasium.wrappers.vector import TransformReward as VectorTransformReward
from worlds import make_scalar, make_vector, settings_of

import duelenv

EVERY = tuple(duelenv.WORLDS)


def play(env, asked=1, seed=0):
    """Plays an episode of random pairs; returns labels, the truncations and the last info."""
    rng = np.random.default_rng(seed)
    world = env.unwrapped
    vector = isinstance(world, duelenv.DuelVectorEnv)
    inner = world if vector else world.vector
    env.reset(seed=seed)
    labels, ends, info = [], [], {}
    while not ends or not np.all(ends[-1]):
        pairs = rng.integers(0, inner.num_candidates, (inner.num_envs, 2))
        actions = np.column_stack([pairs, np.full(len(pairs), asked)]) if inner.selective else pairs
        _, label, terminated, truncated, info = env.step(actions if vector else actions[0])
        assert not np.any(terminated)
        labels.append(label)
        ends.append(truncated)
    return np.array(labels, np.float64), ends, info


@pytest.mark.parametrize("world", EVERY)
def test_statistics_add_up_the_labels_of_an_episode(world):
    labels, _, info = play(RecordEpisodeStatistics(make_scalar(world, horizon=5)))
    assert info["episode"]["l"] == 5
    assert info["episode"]["r"] == pytest.approx(labels.sum())
    rows, _, info = play(VectorStatistics(make_vector(world, 3, horizon=5)))
    np.testing.assert_array_equal(info["episode"]["l"], [5, 5, 5])
    np.testing.assert_allclose(info["episode"]["r"], rows.sum(axis=0))


@pytest.mark.parametrize("world", EVERY)
def test_statistics_of_a_missing_label_are_nan(world):
    """A sum over labels of which one is unknown is unknown."""
    labels, _, info = play(RecordEpisodeStatistics(make_scalar(world, horizon=3, selective=True)), asked=0)
    assert np.isnan(labels).all()
    assert np.isnan(info["episode"]["r"])
    assert info["episode"]["l"] == 3
    _, _, info = play(VectorStatistics(make_vector(world, 3, horizon=3, selective=True)), asked=0)
    assert np.isnan(info["episode"]["r"]).all()


@pytest.mark.parametrize("world", EVERY)
def test_a_time_limit_ends_an_episode_earlier_and_the_next_goes_on(world):
    env = TimeLimit(make_scalar(world, horizon=5), 2)
    _, ends, info = play(env)
    assert ends == [False, True]
    assert info["queries"] == 2
    env.reset()
    *_, info = env.step(np.array([0, 1]))
    assert info["queries"] == 3
    limited = gymnasium.make(world, **settings_of(world), horizon=5, max_episode_steps=2)
    limited.reset(seed=0)
    assert [limited.step(np.array([0, 1]))[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("world", EVERY)
def test_transformed_rewards_are_the_function_of_the_label(world):
    plain, _, _ = play(make_scalar(world, horizon=6))
    turned, _, _ = play(TransformReward(make_scalar(world, horizon=6), lambda label: 2 * label - 1))
    np.testing.assert_array_equal(turned, 2 * plain - 1)
    rows, _, _ = play(make_vector(world, 3, horizon=6))
    turned, _, _ = play(VectorTransformReward(make_vector(world, 3, horizon=6), lambda label: 2 * label - 1))
    np.testing.assert_array_equal(turned, 2 * rows - 1)


@pytest.mark.parametrize("world", EVERY)
def test_a_stack_of_wrappers_still_tells_the_agent_everything(world):
    """What agents learn from is in the info and in the labels, whatever stands around the world."""
    env = TransformReward(TimeLimit(RecordEpisodeStatistics(make_scalar(world, horizon=4)), 3), lambda label: label)
    agent = duelenv.agents.make("passive", env, seed=0)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        action = agent.act(observation)
        following, label, _, _, info = env.step(action)
        agent.update(observation, action, label, info["late"])
        observation = following
    assert all(np.isfinite(value) for value in duelenv.evaluate(env, agent).values())


@pytest.mark.parametrize("world", EVERY)
def test_normalised_rewards_are_no_labels_and_agents_say_so(world):
    """It divides by a running deviation: a label of 1 is then no longer one, and may leave [0, 1]."""
    env = NormalizeReward(make_scalar(world, horizon=8))
    labels, _, _ = play(env)
    assert np.isfinite(labels).all()
    agent = duelenv.agents.make("passive", env, seed=0)
    observation, _ = env.reset(seed=0)
    action = agent.act(observation)
    with pytest.raises(duelenv.UserError, match="expected values in"):
        agent.update(observation, action, 7.0, env.step(action)[-1]["late"])


@pytest.mark.parametrize("world", EVERY)
def test_vector_rewards_normalise_where_every_label_is_known(world):
    labels, _, _ = play(VectorNormalizeReward(make_vector(world, 3, horizon=6)))
    assert np.isfinite(labels).all()


def test_gymnasium_refuses_running_observations_of_worlds_whose_rows_end_together():
    env = gymnasium.wrappers.vector.FlattenObservation(make_vector("duelenv/FeatureDuel-v0", 3))
    with pytest.raises((ValueError, AssertionError)) as refused:  # Gymnasium 1.2 asserts it without a word
        VectorNormalizeObservation(env)
    assert refused.type is AssertionError or "autoreset_mode" in str(refused.value)


@pytest.mark.parametrize("world", EVERY)
def test_seeds_are_kept_by_wrappers(world):
    bare, _, _ = play(make_vector(world, 3, horizon=5))
    wrapped, _, _ = play(VectorStatistics(make_vector(world, 3, horizon=5)))
    np.testing.assert_array_equal(bare, wrapped)
