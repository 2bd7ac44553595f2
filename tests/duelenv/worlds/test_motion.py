"""FeatureDuel's moving truth: it turns and changes as the settings say, and regret follows it."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import make_vector

import duelenv
from duelenv.ground.randomness import stream
from duelenv.worlds.motion import Motion, MovingUtility

WORLD = "duelenv/FeatureDuel-v0"


def world(**settings):
    return make_vector(WORLD, 6, **({"batch": 2, "horizon": 20, "num_candidates": 5, "dim": 4} | settings))


def thetas(env, rounds, seed=0):
    """The truth of every round, read off the margins of axis-aligned features, through the public interface."""
    env.reset(seed=seed)
    found = []
    for _ in range(rounds):
        found.append(env.unwrapped._utility.theta.copy())
        env.step(np.zeros((env.num_envs, 2), np.int64))
    return np.array(found)  # (rounds, R, d)


def cosines(path):
    unit = path / np.linalg.norm(path, axis=-1, keepdims=True)
    return (unit[:-1] * unit[1:]).sum(-1)


def test_a_truth_that_does_not_move_is_the_one_of_before():
    env = world()
    path = thetas(env, 5)
    assert (path == path[0]).all()
    draw = stream(env.root, "utility", 1).standard_normal(4)
    np.testing.assert_allclose(path[0, 1], 2.0 * draw / np.linalg.norm(draw))


@pytest.mark.parametrize("utility", ["linear", "linear_gaussian", "linear_sparse", "cosine"])
def test_drift_turns_the_parameter_by_its_angle_in_one_plane(utility):
    path = thetas(world(drift=0.1, utility=utility), 20)
    np.testing.assert_allclose(np.arccos(cosines(path)), 0.1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), np.linalg.norm(path[:1], axis=-1) * np.ones((20, 1)))
    for replicate in range(3):
        assert np.linalg.matrix_rank(path[:, replicate], tol=1e-9) == 2
    for number in range(20):
        start = path[0]
        np.testing.assert_allclose((path[number] * start).sum(-1), np.cos(0.1 * number) * (start**2).sum(-1), atol=1e-9)


def test_changes_draw_a_new_truth_at_their_rounds_only():
    path = thetas(world(changes=[3, 11]), 20)
    changed = [number + 1 for number in range(19) if not np.array_equal(path[number], path[number + 1])]
    assert changed == [3, 11]
    assert (np.abs(cosines(path)[[2, 10]]) < 0.999).all()


def test_drift_and_change_together_turn_each_truth_in_a_plane_of_its_own():
    path = thetas(world(drift=0.2, changes=[8]), 20)
    np.testing.assert_allclose(np.delete(np.arccos(cosines(path)), 7, axis=0), 0.2, rtol=1e-6)
    np.testing.assert_array_equal(path[8], thetas(world(changes=[8]), 9)[8])


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("utility", ["linear", "mlp", "gp", "ackley"])
def test_regret_is_dynamic_and_exact(fixed, utility):
    drift = 0.3 if utility == "linear" else 0.0
    env = world(changes=[2, 5], drift=drift, utility=utility, fixed=fixed)
    seen, _ = env.reset(seed=1)
    actions = np.tile([0, 1], (6, 1))
    best_arms = []
    for number in range(8):
        truth = MovingUtility(env.root, 3, utility, 4, 2.0, Motion(drift, (2, 5))).at(number)
        values = truth(seen["features"].reshape(3, 2, 5, 4)).reshape(6, 5)
        following, _, _, _, info = env.step(actions)
        expected = values.max(axis=1) - values[:, :2].mean(axis=1)
        np.testing.assert_allclose(info["regret"]["utility"], expected, atol=1e-6)
        margin = 2.0 / (1.0 + np.exp(values[:, 1] - values[:, 0])) - 1.0
        np.testing.assert_allclose(info["margin"], margin, atol=1e-6)
        best_arms.append(values.argmax(axis=1))
        if fixed:
            np.testing.assert_array_equal(seen["features"], following["features"])
        seen = following
    if fixed:
        assert (best_arms[0] != best_arms[-1]).any()


def test_evaluate_judges_by_the_truth_of_the_moment():
    class First:
        def recommend(self, observation):
            return np.zeros(6, np.int64)

    env = world(changes=[4], horizon=20)
    env.reset(seed=0)
    figures = []
    for _ in range(6):
        figures.append(env.evaluate(First())["simple_regret"])
        env.step(np.zeros((6, 2), np.int64))
    np.testing.assert_array_equal(figures[0], figures[3])
    np.testing.assert_array_equal(figures[4], figures[5])
    assert (figures[3] != figures[4]).all()


def test_contexts_and_coins_are_those_of_the_world_that_stands_still():
    still, moving = world(), world(drift=0.1, changes=[2])
    one, other = still.reset(seed=0)[0], moving.reset(seed=0)[0]
    actions = np.tile([0, 1], (6, 1))
    for number in range(20):
        np.testing.assert_array_equal(one["features"], other["features"])
        (one, labels, *_), (other, moved, *_) = still.step(actions), moving.step(actions)
        if number == 0:
            np.testing.assert_array_equal(labels, moved)


def test_the_clock_goes_on_over_episodes_and_a_seed_sets_it_back():
    env = world(changes=[5], horizon=4)
    first = thetas(env, 4)
    env.reset()
    assert np.array_equal(env._utility.theta, first[0])
    env.step(np.zeros((6, 2), np.int64))
    assert not np.array_equal(env._utility.theta, first[0])
    np.testing.assert_array_equal(thetas(env, 4), first)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("stop", [0, 3, 6, 20, 21])
def test_a_moving_world_continues_exactly(fixed, stop):
    def made():
        return world(drift=0.1, changes=[5], horizon=20, fixed=fixed)

    actions = np.tile([0, 1], (6, 1))
    env, other = made(), made()
    env.reset(seed=3)
    for number in range(stop):
        if number == 20:
            env.reset()
        env.step(actions)
    other.reset(seed=8)
    other.load_state_dict(env.state_dict())
    if stop == 20:
        np.testing.assert_array_equal(env.reset()[0]["features"], other.reset()[0]["features"])
    for _ in range(5):
        one, two = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(one[0]["features"], two[0]["features"])
        np.testing.assert_array_equal(one[1], two[1])
        np.testing.assert_array_equal(one[4]["regret"]["utility"], two[4]["regret"]["utility"])


def test_more_replicates_do_not_change_the_first():
    many, few = world(drift=0.1, changes=[3]), make_vector(WORLD, 2, batch=2, dim=4, drift=0.1, changes=[3])
    np.testing.assert_array_equal(thetas(many, 6)[:, :1], thetas(few, 6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drift": "fast"}, "drift is 'fast', expected a number of at least 0"),
        ({"drift": -0.5}, "drift is -0.5, expected a number of at least 0"),
        ({"drift": 0.1, "utility": "mlp"}, "utility='mlp' has none; use changes"),
        ({"drift": 0.1, "dim": 1}, "one dimension does not allow; set dim=2"),
        ({"changes": 5}, "changes is 5, expected a list of rounds"),
        ({"changes": [0]}, r"changes\[0\] is 0, expected an integer of at least 1"),
        ({"changes": [5, 5]}, r"changes is \[5, 5\], expected increasing rounds"),
    ],
)
def test_a_wrong_motion_is_one_sentence(settings, message):
    with pytest.raises(duelenv.UserError, match=message) as caught:
        world(**settings)
    assert not str(caught.value).endswith(".")


def test_shares_of_the_horizon_are_rounds():
    assert Motion.of(0.0, [0.5, 0.75], 1000).changes == (500, 750)
    assert Motion.of(0.0, [0.01], 20).changes == (1,)  # never round 0, before which there is nothing
    assert Motion.of(0.0, [3, 0.5], 20).changes == (3, 10)
    for wrong in ([1.0], [0.0], [-0.5], [0.5, 0.5]):
        with pytest.raises(duelenv.UserError, match="changes"):
            Motion.of(0.0, wrong, 20)
