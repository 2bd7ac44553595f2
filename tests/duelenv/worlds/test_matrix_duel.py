"""MatrixDuel's moving truth: relabelled at changes, faded by drift, or a sequence that was given; regret follows it."""

from __future__ import annotations

import warnings
from itertools import pairwise, permutations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from worlds import make_scalar, make_vector

import duelenv
from duelenv.oracles import matrices
from duelenv.worlds.motion import Motion, MovingMatrix

WORLD = "duelenv/MatrixDuel-v0"
LINE = matrices.arithmetic(4, 0.1)  # arm 0 before 1 before 2 before 3
ROCK_PAPER_SCISSORS = matrices.cyclic(3, 0.8)
CYCLE = matrices.check_matrix(
    0.5 + np.array([[0, 0.1, -0.3, 0.4], [-0.1, 0, 0.2, 0.2], [0.3, -0.2, 0, 0.1], [-0.4, -0.2, -0.1, 0]])
)
SEQUENCE = np.stack([LINE, matrices.mallows(4, 0.5)[::-1, ::-1], matrices.savage_hard(4)])
MOTIONS = {
    "changes": {"matrix": LINE, "changes": [3, 7, 8]},
    "drift": {"matrix": LINE, "drift": 0.07},
    "both": {"matrix": LINE, "drift": 0.11, "changes": [4, 15]},
    "cycle": {"matrix": CYCLE, "drift": 0.05, "changes": [5]},
    "sequence": {"matrix": SEQUENCE, "changes": [4, 9]},
    "mixed_sequence": {"matrix": [LINE, CYCLE], "changes": [4]},
}


def world(num_envs=6, **settings):
    return make_vector(WORLD, num_envs, **({"batch": 2, "horizon": 20} | settings))


def truth(env):
    """The matrix of every replicate in the current round, [R, K, K], asked pair by pair in public."""
    num_arms = env.num_candidates
    found = np.zeros((env.num_envs, num_arms, num_arms))
    for i in range(num_arms):
        for j in range(num_arms):
            found[:, i, j] = env.preferences(np.tile([i, j], (env.num_envs, 1))).win
    rows = found.reshape(env.replicates, env.batch, num_arms, num_arms)
    assert (rows == rows[:, :1]).all()  # rows of a replicate share it
    return rows[:, 0]


def path(env, rounds, seed=0):
    """The truth of every round from a seeded reset on, [T, R, K, K]."""
    env.reset(seed=seed)
    found = []
    for number in range(rounds):
        if number and number % env.horizon == 0:
            env.reset()
        found.append(truth(env))
        env.step(np.zeros((env.num_envs, 2), np.int64))
    return np.array(found)


def winners(found):
    """The Condorcet winner of each matrix, [..., K, K] to [...]."""
    beats_all = (found > 0.5).sum(axis=-1) == found.shape[-1] - 1
    assert (beats_all.sum(axis=-1) == 1).all()
    return beats_all.argmax(axis=-1)


def is_relabelled(found, matrix):
    return any(np.array_equal(found, matrix[np.ix_(order, order)]) for order in permutations(range(len(matrix))))


@pytest.mark.parametrize("name", ["cyclic", "random", "mallows", "arithmetic", "savage_hard"])
def test_a_generator_is_named(name):
    assert (path(world(matrix=name), 1) == matrices.make_matrix(name)).all()


# Motion ---------------------------------------------------------------------------------------------------------------


def test_a_truth_that_does_not_move_is_the_matrix():
    assert (path(world(matrix=CYCLE), 5) == CYCLE).all()


def test_a_change_relabels_the_arms_of_every_replicate_and_dethrones_the_winner():
    found = path(world(40, batch=1, matrix=LINE, changes=[3, 7, 8]), 12)
    changed = [number for number in range(1, 12) if (found[number] != found[number - 1]).any()]
    assert changed == [3, 7, 8]
    assert (found[:3] == LINE).all()
    for number in changed:
        assert (winners(found[number]) != winners(found[number - 1])).all()
        assert len(np.unique(winners(found[number]))) > 1  # each replicate in its own way
        assert all(is_relabelled(one, LINE) for one in found[number])


def test_relabellings_are_uniform_among_those_that_dethrone_the_winner():
    found = path(world(600, batch=1, matrix=LINE, changes=[1]), 2)[1]
    places = found.sum(axis=2).argsort(axis=1)[:, ::-1]  # from best to worst
    kinds, counts = np.unique(places, axis=0, return_counts=True)
    assert len(kinds) == 18  # 4! less the 3! that leave arm 0 best
    assert counts.min() > 600 / 18 - 4 * np.sqrt(600 / 18)
    assert counts.max() < 600 / 18 + 4 * np.sqrt(600 / 18)


def test_without_a_winner_a_change_gives_another_matrix():
    found = path(world(40, batch=1, matrix=ROCK_PAPER_SCISSORS, changes=[1, 2]), 3)
    for before, after in pairwise(found):  # half of all relabellings would leave the cycle as it was
        assert (before != after).any(axis=(1, 2)).all()


def test_drift_fades_all_preferences_at_its_speed_and_brings_them_back_relabelled():
    drift, furthest = 0.04, 0.3
    found = path(world(20, batch=1, matrix=LINE, drift=drift), 33)
    steps = np.abs(np.diff(found, axis=0)).max(axis=(2, 3))
    contrast = np.abs(found - 0.5).max(axis=(2, 3)) / furthest
    np.testing.assert_allclose(contrast[:8], 1 - drift / furthest * np.arange(8)[:, np.newaxis] * np.ones(20))
    turns = [7, 22]  # indifference lies within these steps, after furthest / drift = 7.5 and three times as many rounds
    np.testing.assert_allclose(np.delete(steps, turns, axis=0), drift, rtol=1e-9)
    assert (steps <= drift + 1e-12).all()
    best = winners(found)
    assert (best[:8] == 0).all()
    assert (best[8:23] == best[8]).all()
    assert (best[8] != best[7]).all()
    assert (best[23] != best[22]).all()
    assert all(is_relabelled(one.round(9), LINE.round(9)) for one in found[[15, 30]].reshape(-1, 4, 4))  # full contrast


def test_a_change_under_drift_starts_from_full_contrast():
    found = path(world(matrix=LINE, drift=0.1, changes=[2, 11]), 12)
    for number, contrast in {0: 1, 1: 2 / 3, 2: 1, 3: 2 / 3, 5: 0, 6: 1 / 3, 8: 1, 11: 1}.items():
        np.testing.assert_allclose(np.abs(found[number] - 0.5).max(axis=(1, 2)), 0.3 * contrast, atol=1e-9)
    assert (winners(found[2]) != winners(found[1])).all()
    assert (winners(found[6]) != winners(found[4])).all()
    assert (winners(found[11]) != winners(found[10])).all()


@pytest.mark.parametrize("source", ["array", "list", "file"])
def test_a_sequence_of_matrices_holds_one_after_the_other(source, tmp_path):
    np.save(tmp_path / "several.npy", SEQUENCE)
    given = {"array": SEQUENCE, "list": SEQUENCE.tolist(), "file": str(tmp_path / "several.npy")}[source]
    found = path(world(matrix=given, changes=[4, 9]), 12)
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one, np.tile(SEQUENCE[(number >= 4) + (number >= 9)], (3, 1, 1)))


def test_the_truth_of_a_round_does_not_depend_on_the_order_of_asking():
    moving = MovingMatrix(7, 3, LINE[np.newaxis], Motion(0.2, (5, 9)))
    forth = [moving.at(number) for number in range(20)]
    back = [moving.at(number) for number in reversed(range(20))][::-1]
    for one, other in zip(forth, back, strict=True):
        assert one.contrast == other.contrast
        np.testing.assert_array_equal(one.roles, other.roles)


# Regret ---------------------------------------------------------------------------------------------------------------


def expected_regret(matrix, first, second):
    """Every notion by its definition, from the matrix of the round."""
    scores = {"borda": matrices.borda_scores(matrix), "copeland": matrices.copeland_scores(matrix)}
    regret = {name: score.max() - (score[first] + score[second]) / 2 for name, score in scores.items()}
    weights = matrices.von_neumann_winner(matrix)
    against = [sum(weights * matrix[:, arm]) for arm in (first, second)]
    regret["von_neumann"] = sum(against) / 2 - 0.5
    winner = matrices.condorcet_winner(matrix)
    if winner is not None:
        gaps = matrix[winner, first] - 0.5, matrix[winner, second] - 0.5
        regret |= {"sum": sum(gaps), "average": sum(gaps) / 2, "strong": max(gaps), "weak": min(gaps)}
    return regret


@pytest.mark.parametrize("motion", MOTIONS)
def test_regret_and_margin_are_those_of_the_truth_of_the_round(motion):
    env = world(**MOTIONS[motion], num_envs=8)
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    always = {"borda", "copeland", "von_neumann"}
    known = always if "cycle" in motion or "mixed" in motion else always | {"average", "sum", "strong", "weak"}
    for _ in range(20):
        current = np.repeat(truth(env), 2, axis=0)
        actions = rng.integers(0, 4, (8, 2))
        info = env.step(actions)[-1]
        assert set(info["regret"]) == known  # in every round
        for row, (first, second) in enumerate(actions):
            assert info["margin"][row] == pytest.approx(2 * current[row, first, second] - 1)
            for name, value in expected_regret(current[row], first, second).items():
                if name in known:
                    assert info["regret"][name][row] == pytest.approx(value, abs=1e-9), name


def test_where_preferences_have_faded_entirely_nothing_costs_anything():
    env = world(matrix=matrices.cyclic(3, 0.75), drift=0.125)  # contrast 1, 1/2, 0, exactly
    env.reset(seed=0)
    for expected in (True, True, False, True):
        assert (truth(env) != 0.5).any() == expected
        regret = env.step(np.tile([0, 1], (6, 1)))[-1]["regret"]
        assert set(regret) == {"borda", "copeland", "von_neumann"}
    env = world(matrix=[[0.5, 0.75], [0.25, 0.5]], drift=0.125)
    env.reset(seed=0)
    path = []
    for _ in range(4):
        path.append({name: value[0] for name, value in env.step(np.tile([1, 1], (6, 1)))[-1]["regret"].items()})
    assert [one["average"] for one in path] == [0.25, 0.125, 0.0, 0.0]  # and then arm 1 is best
    assert [one["copeland"] for one in path] == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("motion", MOTIONS)
def test_evaluate_judges_an_arm_by_the_truth_of_the_coming_round(motion):
    class Second:
        def recommend(self, observation):
            return np.ones(6, np.int64)

    env = world(**MOTIONS[motion])
    env.reset(seed=0)
    for _ in range(12):
        measured = env.evaluate(Second())
        current = truth(env)
        np.testing.assert_allclose(measured["win_rate_best_of_n"], (current[:, 1].sum(axis=1) - 0.5) / 3)
        regret = env.step(np.ones((6, 2), np.int64))[-1]["regret"]
        loss = regret.get("average", regret["copeland"])
        np.testing.assert_allclose(measured["simple_regret"], loss.reshape(3, 2).mean(axis=1), atol=1e-12)


# The contract ---------------------------------------------------------------------------------------------------------


def test_labels_before_the_first_change_are_those_of_the_world_that_stands_still():
    still, moving = world(matrix=LINE), world(matrix=LINE, changes=[8])
    still.reset(seed=0)
    moving.reset(seed=0)
    same = [
        np.array_equal(still.step(actions)[1], moving.step(actions)[1])
        for actions in np.random.default_rng(0).integers(0, 4, (20, 6, 2))
    ]
    assert all(same[:8])
    assert not all(same[8:])


@pytest.mark.parametrize("motion", MOTIONS)
def test_more_replicates_do_not_change_the_first(motion):
    many, few = path(world(12, **MOTIONS[motion]), 12), path(world(4, **MOTIONS[motion]), 12)
    np.testing.assert_array_equal(many[:, :2], few)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_scalar_form_is_row_zero(motion):
    vector = make_vector(WORLD, 1, horizon=20, **MOTIONS[motion])
    scalar = make_scalar(WORLD, horizon=20, **MOTIONS[motion])
    vector.reset(seed=4)
    scalar.reset(seed=4)
    for actions in np.random.default_rng(1).integers(0, 4, (20, 1, 2)):
        _, labels, _, _, info = vector.step(actions)
        _, label, _, _, row = scalar.step(actions[0])
        assert label == labels[0]
        assert row["regret"] == {name: value[0] for name, value in info["regret"].items()}


@pytest.mark.parametrize("motion", MOTIONS)
def test_swapping_a_pair_turns_its_label_around(motion):
    one, two = world(64, **MOTIONS[motion]), world(64, **MOTIONS[motion])
    one.reset(seed=0)
    two.reset(seed=0)
    for actions in np.random.default_rng(2).integers(0, 4, (20, 64, 2)):
        actions[:, 1] = (actions[:, 0] + 1 + actions[:, 1] % 3) % 4  # two different arms
        np.testing.assert_array_equal(one.step(actions)[1], 1.0 - two.step(actions[:, ::-1])[1])


def test_gymnasium_accepts_a_world_that_moves():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(make_scalar(WORLD, horizon=3, **MOTIONS["both"]))


@pytest.mark.parametrize("motion", ["changes", "drift", "sequence"])
def test_the_clock_goes_on_over_episodes_and_a_seed_sets_it_back(motion):
    long, short = world(horizon=100, **MOTIONS[motion]), world(horizon=3, **MOTIONS[motion])
    whole = path(long, 14)
    np.testing.assert_array_equal(path(short, 14), whole)
    np.testing.assert_array_equal(path(short, 14), whole)
    another = path(short, 14, seed=1)
    assert np.array_equal(another, whole) == (motion == "sequence")  # which is given, not drawn


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("stop", [0, 4, 9, 20, 23])
def test_a_moving_world_continues_exactly(motion, stop):
    env, other = world(**MOTIONS[motion]), world(**MOTIONS[motion])
    env.reset(seed=3)
    draws = np.random.default_rng(0).integers(0, 4, (30, 6, 2))
    for number in range(stop):
        if number == 20:
            env.reset()
        env.step(draws[number])
    other.reset(seed=8)
    for actions in draws[:6]:
        other.step(actions)
    other.load_state_dict(env.state_dict())
    if stop == 20:
        env.reset()
        other.reset()
    for actions in draws[stop : stop + 7]:
        np.testing.assert_array_equal(truth(env), truth(other))
        left, right = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(left[1], right[1])
        for name, value in left[4]["regret"].items():
            np.testing.assert_array_equal(value, right[4]["regret"][name])


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"changes": 5}, "changes is 5, expected a list of rounds"),
        ({"changes": [5, 5]}, r"changes is \[5, 5\], expected increasing rounds"),
        ({"changes": [1.5]}, r"changes\[0\] is 1.5, expected a number in \(0, 1\)"),
        ({"drift": -0.1}, "drift is -0.1, expected a number of at least 0"),
        ({"drift": 1.5}, r"drift is 1.5, expected a number in \[0, 1\]"),
        ({"drift": "slow"}, "drift is 'slow', expected a number of at least 0"),
        ({"matrix": "arithmetik"}, "did you mean 'arithmetic'"),
        ({"matrix": SEQUENCE}, "matrix holds 3 matrices and changes 0 rounds, expected one less"),
        ({"matrix": SEQUENCE, "changes": [1, 2, 3]}, "holds 3 matrices and changes 3 rounds, expected one less"),
        ({"matrix": SEQUENCE, "changes": [1, 2], "drift": 0.1}, "drift relabels the arms of one; leave drift out"),
        ({"matrix": np.full((3, 3), 0.5), "changes": [5]}, "matrix is 0.5 everywhere and cannot move"),
    ],
)
def test_a_wrong_motion_is_one_sentence(settings, message):
    with pytest.raises(duelenv.UserError, match=message) as caught:
        world(**({"matrix": LINE} | settings))
    assert not str(caught.value).endswith(".")
