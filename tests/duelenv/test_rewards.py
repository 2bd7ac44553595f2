"""The privileged reward is minus the regret, and changes nothing else."""

import gymnasium
import numpy as np
import pytest
from worlds import NUMERIC, make_scalar, make_vector

from duelenv.ground.errors import UserError
from duelenv.rewards import RegretReward, ScalarRegretReward

CYCLE = [[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]


@pytest.mark.parametrize("world", NUMERIC)
@pytest.mark.parametrize("notion", ["average", "sum", "strong", "weak"])
def test_the_reward_is_minus_the_regret_and_the_rest_is_the_worlds(world, notion):
    plain = make_vector(world, 6, horizon=4)
    paid = RegretReward(make_vector(world, 6, horizon=4), notion)
    plain.reset(seed=3), paid.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = rng.integers(4, size=(6, 2))
        observation, labels, _, truncated, info = plain.step(actions)
        own_observation, reward, _, own_truncated, own_info = paid.step(actions)
        assert np.array_equal(reward, -info["regret"][notion])
        assert np.array_equal(own_info["label"], labels)
        assert np.array_equal(own_info["queries"], info["queries"])
        assert np.array_equal(own_observation["features"], observation["features"])
        assert np.array_equal(own_truncated, truncated)
    assert own_truncated.all()


@pytest.mark.parametrize("world", NUMERIC)
def test_the_scalar_form_is_row_0(world):
    vector, scalar = RegretReward(make_vector(world, 3)), ScalarRegretReward(make_scalar(world))
    vector.reset(seed=1), scalar.reset(seed=1)
    for action in ([0, 1], [2, 2], [3, 0]):
        reward = scalar.step(np.array(action))[1]
        assert isinstance(reward, float)
        assert reward == vector.step(np.array([action] * 3))[1][0]


def test_the_best_pair_is_paid_most_and_nothing_is_lost_there():
    env = RegretReward(make_vector("duelenv/FeatureDuel-v0", 16, horizon=1), "utility")
    pairs = np.argwhere(np.ones((4, 4)))
    rewards = []
    for pair in pairs:
        env.reset(seed=0)
        rewards.append(env.step(np.tile(pair, (16, 1)))[1])
    best = pairs[np.argmax(rewards, axis=0)]
    assert np.allclose(np.max(rewards, axis=0), 0.0)
    assert (best[:, 0] == best[:, 1]).all()
    assert np.min(rewards) < -0.5


def test_a_matrix_without_a_condorcet_winner_pays_the_scores_regret_only():
    env = RegretReward(make_vector("duelenv/MatrixDuel-v0", 2, matrix=CYCLE), "borda")
    env.reset(seed=0)
    assert env.step(np.array([[0, 1], [2, 2]]))[1] == pytest.approx(0.0)  # every arm of the cycle is as good
    env = RegretReward(make_vector("duelenv/MatrixDuel-v0", 2, matrix=CYCLE))
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"'average' is no regret .* choose from borda, copeland"):
        env.step(np.array([[0, 1], [2, 2]]))


def test_an_unknown_notion_is_refused_in_one_sentence():
    for env, action in (
        (RegretReward(make_vector("duelenv/FeatureDuel-v0", 1), "avrage"), [[0, 1]]),
        (ScalarRegretReward(make_scalar("duelenv/FeatureDuel-v0"), "avrage"), [0, 1]),
    ):
        env.reset(seed=0)
        with pytest.raises(UserError, match=r"notion='avrage' .* average, strong") as error:
            env.step(np.array(action))
        assert not str(error.value).endswith(".") and "\n" not in str(error.value)


def test_each_form_refuses_what_the_other_wraps():
    with pytest.raises(UserError, match="wrap a scalar one in ScalarRegretReward"):
        RegretReward(make_scalar("duelenv/FeatureDuel-v0"))
    with pytest.raises(UserError, match="wrap a vector one in RegretReward"):
        ScalarRegretReward(make_vector("duelenv/FeatureDuel-v0", 2))
    with pytest.raises(UserError, match="needs a scalar world"):
        ScalarRegretReward(gymnasium.make("CartPole-v1"))


def test_what_it_is_for_shows_in_its_documentation():
    assert "PRIVILEGED" in RegretReward.__doc__ and "PRIVILEGED" in ScalarRegretReward.__doc__
