"""The contract of the worlds, sentence by sentence, in every world where it can be said."""

import copy
import gc
import pickle
import types
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from worlds import NUMERIC, make_scalar, make_vector

import duelenv
import duelenv.agents
from duelenv.scalar import first_row

EVERY = tuple(duelenv.WORLDS)
EXPECTED_WARNINGS = (
    "minimum value is -infinity",
    "maximum value is infinity",
    "unconventional shape",
)


def unexpected(caught):
    messages = [str(warning.message) for warning in caught]
    return [m for m in messages if not any(expected in m for expected in EXPECTED_WARNINGS)]


def random_actions(env, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, env.num_candidates, (env.num_envs, 2))


def distinct_actions(env, seed):
    first, offset = random_actions(env, seed).T
    return np.stack([first, (first + 1 + offset % (env.num_candidates - 1)) % env.num_candidates], 1)


def assert_same(left, right):
    assert list(left) == list(right)
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


# Gymnasium ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", EVERY)
def test_gymnasium_accepts_the_scalar_form(world):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(make_scalar(world, horizon=3))
    assert not unexpected(caught)


@pytest.mark.parametrize("world", [*NUMERIC])
def test_stable_baselines_accepts_the_numeric_worlds(world):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_for_sb3(make_scalar(world, horizon=3))
    assert not unexpected(caught)


@pytest.mark.parametrize("world", EVERY)
def test_observations_lie_in_the_declared_spaces(world):
    env = make_vector(world, 3, horizon=3)
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space
    observation, *_ = env.step(random_actions(env))
    assert observation in env.observation_space
    assert env.single_observation_space == make_scalar(world).observation_space


def test_autoreset_is_declared_disabled():
    env = make_vector("duelenv/FeatureDuel-v0", 2)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED


# Episodes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", EVERY)
def test_an_episode_is_horizon_rounds_truncated_all_together(world):
    env = make_vector(world, 3, horizon=3)
    env.reset(seed=0)
    for round_number in range(3):
        _, _, terminated, truncated, _ = env.step(random_actions(env))
        assert not terminated.any()
        assert truncated.tolist() == [round_number == 2] * 3
    with pytest.raises(duelenv.UserError, match="call reset"):
        env.step(random_actions(env))
    env.reset()
    env.step(random_actions(env))


def test_step_before_reset_is_refused():
    env = make_vector("duelenv/FeatureDuel-v0", 2)
    with pytest.raises(duelenv.UserError, match="before reset"):
        env.step(random_actions(env))


def test_reset_keeps_the_truth_and_a_seed_redraws_it():
    env = make_vector("duelenv/FeatureDuel-v0", 2, fixed=True, horizon=2)
    pairs = np.array([[0, 1], [0, 1]])

    def truth():
        return env.step(pairs)[-1]["regret"]["utility"]

    env.reset(seed=0)
    first = truth()
    env.reset()
    np.testing.assert_array_equal(truth(), first)
    env.reset(seed=1)
    assert (truth() != first).all()


def test_reset_without_a_seed_goes_on_with_new_contexts():
    env = make_vector("duelenv/FeatureDuel-v0", 2, horizon=2)
    before = env.reset(seed=0)[0]["features"]
    after = env.reset()[0]["features"]
    assert (before != after).any()


# Randomness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", EVERY)
def test_a_seed_fixes_everything(world):
    one, two = make_vector(world, 3), make_vector(world, 3)
    for seed in (5, 5):
        assert_same(one.reset(seed=seed)[0], two.reset(seed=5)[0])
        for _ in range(3):
            actions = random_actions(one)
            observation, labels, _, _, info = one.step(actions)
            other, other_labels, _, _, other_info = two.step(actions)
            assert_same(observation, other)
            np.testing.assert_array_equal(labels, other_labels)
            assert_same(info["regret"], other_info["regret"])


@pytest.mark.parametrize("world", EVERY)
def test_the_first_rows_of_a_large_batch_are_a_small_one(world):
    large, small = make_vector(world, 6), make_vector(world, 3)
    seen, few = large.reset(seed=2)[0], small.reset(seed=2)[0]
    for _ in range(3):
        for key in few:
            left, right = seen[key][:3], few[key]
            if left.dtype.kind == "f":  # matrix products round differently in batches of another size
                np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(left, right)
        actions = random_actions(large)
        seen, labels, _, _, info = large.step(actions)
        few, few_labels, _, _, few_info = small.step(actions[:3])
        np.testing.assert_array_equal(labels[:3], few_labels)
        for name, value in few_info["regret"].items():
            np.testing.assert_allclose(info["regret"][name][:3], value, atol=1e-6)


@pytest.mark.parametrize("world", EVERY)
def test_the_scalar_form_is_row_zero(world):
    vector, scalar = make_vector(world, 1), make_scalar(world)
    rows, row = vector.reset(seed=4)[0], scalar.reset(seed=4)[0]
    for _ in range(3):
        assert_same(first_row(rows), row)
        actions = random_actions(vector)
        rows, labels, _, _, info = vector.step(actions)
        row, label, terminated, truncated, row_info = scalar.step(actions[0])
        assert label == labels[0]
        assert type(label) is float
        assert terminated is False
        assert truncated is False
        assert row_info["regret"] == {name: value[0] for name, value in info["regret"].items()}


@pytest.mark.parametrize("world", [*NUMERIC, "duelenv/PoolDuel-v0"])
def test_swapping_a_pair_turns_its_label_around(world):
    one, two = make_vector(world, 64), make_vector(world, 64)
    one.reset(seed=0)
    two.reset(seed=0)
    for seed in range(20):
        actions = distinct_actions(one, seed)
        labels, turned = one.step(actions)[1], two.step(actions[:, ::-1])[1]
        np.testing.assert_array_equal(labels, 1.0 - turned)


@pytest.mark.parametrize("world", EVERY)
def test_agents_with_other_choices_meet_the_same_contexts_and_coins(world):
    one, two = make_vector(world, 8), make_vector(world, 8)
    one.reset(seed=0)
    two.reset(seed=0)
    for seed in range(3):  # different duels ...
        one.step(random_actions(one, seed))
        two.step(random_actions(two, seed + 100))
    same = random_actions(one, 7)
    left, right = one.step(same), two.step(same)  # ... and then the same
    assert_same(left[0], right[0])
    np.testing.assert_array_equal(left[1], right[1])


def test_rows_of_a_replicate_share_the_truth_and_others_do_not():
    env = make_vector("duelenv/FeatureDuel-v0", 6, batch=3, fixed=True)
    features = env.reset(seed=0)[0]["features"]
    np.testing.assert_array_equal(features[0], features[2])
    assert (features[0] != features[3]).any()
    regret = env.step(np.tile([[0, 1]], (6, 1)))[-1]["regret"]["utility"]
    np.testing.assert_allclose(regret[:3], regret[0], rtol=1e-6)
    assert abs(regret[0] - regret[3]) > 0.01


# Labels and queries ---------------------------------------------------------------------------------------------------


def test_labels_are_bernoulli_with_the_probability_of_the_matrix():
    from worlds import MATRIX

    rows = 20_000
    env = make_vector("duelenv/MatrixDuel-v0", rows)
    env.reset(seed=0)
    for i, j in [(0, 3), (3, 0), (1, 2), (2, 2)]:
        labels = env.step(np.tile([[i, j]], (rows, 1)))[1]
        assert set(labels) == {0.0, 1.0}
        assert labels.mean() == pytest.approx(MATRIX[i, j], abs=4 * 0.5 / np.sqrt(rows))


def test_argmax_feedback_names_the_likelier_one():
    env = make_vector("duelenv/MatrixDuel-v0", 3, feedback="argmax")
    env.reset(seed=0)
    assert env.step(np.array([[0, 1], [1, 0], [2, 2]]))[1].tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("world", EVERY)
def test_a_candidate_may_meet_itself_and_its_regret_counts(world):
    env = make_vector(world, 4)
    env.reset(seed=0)
    _, labels, _, _, info = env.step(np.tile([[1, 1]], (4, 1)))
    assert np.isin(labels, [0.0, 0.5, 1.0]).all()
    assert info["queries"].sum() == 4
    regret = info["regret"]
    np.testing.assert_array_equal(regret["strong"], regret["weak"])
    np.testing.assert_allclose(regret["sum"], 2 * regret["average"])


@pytest.mark.parametrize("world", EVERY)
def test_a_row_that_does_not_ask_costs_nothing_and_learns_nothing(world):
    env, always = make_vector(world, 4, selective=True), make_vector(world, 4)
    env.reset(seed=0)
    always.reset(seed=0)
    pairs = random_actions(env)
    asked = np.array([1, 0, 1, 0])
    _, labels, _, _, info = env.step(np.column_stack([pairs, asked]))
    np.testing.assert_array_equal(np.isnan(labels), asked == 0)
    assert info["queries"].sum() == 2
    np.testing.assert_array_equal(labels[asked == 1], always.step(pairs)[1][asked == 1])
    every = np.column_stack([pairs, np.ones(4, int)])
    np.testing.assert_array_equal(env.step(every)[1], always.step(pairs)[1])  # the coins stay in step


def test_queries_are_counted_by_replicate_until_the_next_seed():
    env = make_vector("duelenv/FeatureDuel-v0", 6, batch=3, horizon=2)
    env.reset(seed=0)
    for _ in range(2):
        info = env.step(random_actions(env))[-1]
    assert info["queries"].tolist() == [6, 6]
    assert env.reset()[1]["queries"].tolist() == [6, 6]
    assert env.reset(seed=0)[1]["queries"].tolist() == [0, 0]


# Evaluation, views, checkpoints ---------------------------------------------------------------------------------------


class FirstCandidate:
    """Recommends candidate 0 everywhere."""

    def recommend(self, observation):
        return np.zeros(len(observation["features"]), np.int64)


@pytest.mark.parametrize("world", EVERY)
@pytest.mark.parametrize("split", ["train", "test"])
def test_evaluation_has_its_own_stream_and_costs_no_query(world, split):
    env, undisturbed = make_vector(world, 4), make_vector(world, 4)
    env.reset(seed=0)
    undisturbed.reset(seed=0)
    metrics = env.evaluate(FirstCandidate(), split)
    again = env.evaluate(FirstCandidate(), split)
    assert_same(metrics, again)
    for value in metrics.values():
        assert value.shape == (env.replicates,)
        assert np.isfinite(value).all()
    actions = random_actions(env)
    left, right = env.step(actions), undisturbed.step(actions)
    assert_same(left[0], right[0])
    np.testing.assert_array_equal(left[1], right[1])
    np.testing.assert_array_equal(left[-1]["queries"], right[-1]["queries"])


def test_the_scalar_form_evaluates_scalar_agents():
    env = make_scalar("duelenv/FeatureDuel-v0")
    env.reset(seed=0)
    agent = duelenv.agents.make("passive", env)
    beliefs = {"belief_calibration", "belief_log_loss"}
    assert set(env.evaluate(agent)) == {"simple_regret", "win_rate_best_of_n"} | beliefs


@pytest.mark.parametrize("world", EVERY)
def test_no_truth_can_be_reached_from_an_agent(world):
    """Walks every object that an agent refers to: no environment, no oracle, no utility is among them."""
    env = make_vector(world, 4)
    env.reset(seed=0)
    agent = duelenv.agents.make("thompson", env)
    hidden = ("DuelVectorEnv", "DuelEnv", "Utility", "Oracle")
    seen, queue = set(), [agent]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType)):
            continue
        seen.add(id(thing))
        names = [kind.__name__ for kind in type(thing).__mro__]
        assert not any(name.endswith(hidden) for name in names), f"reached a {type(thing).__name__}"
        if isinstance(thing, types.FunctionType):  # what it closes over, but not its module's globals
            queue += [cell.cell_contents for cell in thing.__closure__ or ()]
        elif not isinstance(thing, (np.ndarray, str, bytes, int, float)):
            queue += gc.get_referents(thing)
    assert len(seen) > 50


@pytest.mark.parametrize("world", EVERY)
@pytest.mark.parametrize("rounds", [1, 3, 70])
def test_a_restored_environment_continues_exactly(world, rounds):
    if rounds > 3 and world == "duelenv/AlignmentDuel-v0":
        pytest.skip("the same streams; 70 rounds of a language model only take time")
    original = make_vector(world, 4, horizon=100)
    original.reset(seed=3)
    for seed in range(rounds):
        observation = original.step(random_actions(original, seed))[0]
    restored = make_vector(world, 4, horizon=100)
    assert_same(restored.load_state_dict(original.state_dict()), observation)
    for seed in range(2):
        actions = random_actions(original, seed + 50)
        left, right = original.step(actions), restored.step(actions)
        assert_same(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])
        np.testing.assert_array_equal(left[-1]["queries"], right[-1]["queries"])


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_candidates": 1}, "num_candidates"),
        ({"dim": 0}, "dim"),
        ({"horizon": 0}, "horizon"),
        ({"batch": 2}, "num_envs=3 is not a multiple of batch=2"),
        ({"utility": "cubic"}, "cubic"),
        ({"link": "step"}, "step"),
        ({"candidates": "cube"}, "cube"),
        ({"feedback": "loud"}, "loud"),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        make_vector("duelenv/FeatureDuel-v0", 3, **settings)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0, 1]], "shape"),
        ([[0.0, 1.0]] * 3, "integer"),
        ([[0, 1, 1]] * 3, "shape"),
        ([[0, 1], [0, 4], [0, 1]], r"\[0, 4\] in row 1"),
        ([[0, 1], [-1, 1], [0, 1]], "row 1"),
    ],
)
def test_a_wrong_action_is_named(actions, message):
    env = make_vector("duelenv/FeatureDuel-v0", 3)
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=message):
        env.step(np.array(actions))


def test_unknown_options_are_refused():
    with pytest.raises(duelenv.UserError, match="speed"):
        make_vector("duelenv/FeatureDuel-v0", 3).reset(options={"speed": 2})


def test_gymnasium_makes_every_world_by_its_id():
    for world in EVERY:
        spec = gymnasium.spec(world)
        assert spec.max_episode_steps is None
        assert spec.vector_entry_point is not None


# Copies ---------------------------------------------------------------------------------------------------------------


def clones(env):
    return [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("world", EVERY)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_goes_on_as_the_original_and_alone(world, steps):
    env = make_vector(
        world, 4, horizon=9, stages=[{"name": "delay", "mean": 2.0}, {"name": "flip", "probability": 0.2}]
    )
    env.reset(seed=0)
    for seed in range(steps):
        env.step(random_actions(env, seed))
    for other in clones(env):
        mirror = copy.deepcopy(env)
        for seed in range(4):
            actions = random_actions(env, seed + 50)
            left, right = mirror.step(actions), other.step(actions)
            assert_same(left[0], right[0])
            np.testing.assert_array_equal(left[1], right[1])
            assert left[-1]["late"] == right[-1]["late"]
            np.testing.assert_array_equal(left[-1]["queries"], right[-1]["queries"])
    assert env.step(random_actions(env))[-1]["round"] == steps  # nobody else moved it


@pytest.mark.parametrize("utility", ["linear", "linear_gaussian", "linear_sparse", "cosine", "mlp", "gp", "ackley"])
@pytest.mark.parametrize("link", ["logistic", "probit", "cloglog"])
def test_every_hidden_truth_can_be_copied(utility, link):
    motion = {"drift": 0.1, "changes": [1]} if utility in ("linear", "cosine") else {"changes": [1]}
    env = make_vector("duelenv/FeatureDuel-v0", 4, utility=utility, link=link, **motion)
    env.reset(seed=0)
    actions = random_actions(env)
    copies = clones(env)
    for _ in range(3):
        regret = env.step(actions)[-1]["regret"]["utility"]
        for other in copies:
            np.testing.assert_array_equal(other.step(actions)[-1]["regret"]["utility"], regret)


def test_a_reset_mask_of_all_rows_is_a_reset_and_one_of_some_is_refused():
    env, plain = make_vector("duelenv/FeatureDuel-v0", 3), make_vector("duelenv/FeatureDuel-v0", 3)
    masked = env.reset(seed=0, options={"reset_mask": np.ones(3, bool)})[0]
    assert_same(masked, plain.reset(seed=0)[0])
    for wrong in (np.array([True, False, True]), np.ones(2, bool), [1, 1, 1]):
        with pytest.raises(duelenv.UserError, match="truncated together; reset all of them"):
            env.reset(options={"reset_mask": wrong})
