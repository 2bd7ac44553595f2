"""`duelenv.evaluate`: one judgement of an agent, whatever stands around the world."""

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import (
    FlattenObservation,
    FrameStackObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
    TimeLimit,
    TransformObservation,
)
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorStatistics
from gymnasium.wrappers.vector import TransformObservation as VectorTransform
from worlds import make_scalar, make_vector

import duelenv
from duelenv import UserError
from duelenv.worlds.matrix_duel import MatrixDuelVectorEnv

EVERY = tuple(duelenv.WORLDS)


class First:
    """Recommends the first candidate."""

    def recommend(self, observation):
        shape = observation["features"].shape
        return 0 if len(shape) == 2 else np.zeros(shape[0], np.int64)


class Largest:
    """Recommends the candidate whose first feature is largest."""

    def recommend(self, observation):
        return observation["features"][..., 0].argmax(axis=-1)


@pytest.mark.parametrize("world", EVERY)
def test_a_scalar_world_gives_floats_with_and_without_wrappers(world):
    bare = make_scalar(world, horizon=3)
    bare.reset(seed=0)
    wrapped = TimeLimit(RecordEpisodeStatistics(bare), 2)
    found = duelenv.evaluate(wrapped, First())
    assert found == duelenv.evaluate(bare, First()) == bare.evaluate(First())
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("world", EVERY)
def test_a_vector_world_gives_a_value_of_each_replicate(world):
    bare = make_vector(world, 3, horizon=3)
    bare.reset(seed=0)
    found, plain = duelenv.evaluate(VectorStatistics(bare), First()), bare.evaluate(First())
    assert found.keys() == plain.keys()
    for name, values in found.items():
        assert values.shape == (bare.replicates,)
        np.testing.assert_array_equal(values, plain[name])


def test_the_split_is_passed_on():
    env = make_vector("duelenv/PoolDuel-v0", 4)
    env.reset(seed=0)
    for split in ("test", "train"):
        expected = env.evaluate(First(), split)["simple_regret"]
        np.testing.assert_array_equal(duelenv.evaluate(env, First(), split)["simple_regret"], expected)


def turned(observation):
    return {"features": -observation["features"]}


class Smallest:
    def recommend(self, observation):
        return observation["features"][..., 0].argmin(axis=-1)


@pytest.mark.parametrize("form", ["scalar", "vector"])
def test_an_agent_sees_what_the_wrappers_show(form):
    if form == "scalar":
        env = make_scalar("duelenv/FeatureDuel-v0")
        wrapped = TransformObservation(env, turned, env.observation_space)
    else:
        env = make_vector("duelenv/FeatureDuel-v0", 3)
        wrapped = VectorTransform(env, turned)
    env.reset(seed=0)
    found, expected = duelenv.evaluate(wrapped, Smallest()), duelenv.evaluate(env, Largest())
    other = duelenv.evaluate(env, Smallest())
    np.testing.assert_array_equal(found["simple_regret"], expected["simple_regret"])
    assert not np.array_equal(found["simple_regret"], other["simple_regret"])


def test_a_scalar_agent_is_judged_on_every_held_out_prompt():
    held_out = {"test_prompts": ["the river", "a garden", "my house", "the doctor", "a teacher", "the village"]}
    scalar = make_scalar("duelenv/AlignmentDuel-v0", **held_out)
    vector = make_vector("duelenv/AlignmentDuel-v0", 1, **held_out)
    for env in (scalar, vector):
        env.reset(seed=0)
    found, expected = duelenv.evaluate(scalar, Largest()), duelenv.evaluate(vector, Largest())
    assert found["win_rate_best_of_n"] == expected["win_rate_best_of_n"][0]
    assert found["win_rate_best_of_n"] != duelenv.evaluate(scalar, First())["win_rate_best_of_n"]


def test_running_statistics_stand_still():
    normed = NormalizeObservation(FlattenObservation(make_scalar("duelenv/FeatureDuel-v0")))
    normed.reset(seed=0)
    before = normed.obs_rms.mean.copy()

    class Flat:
        def recommend(self, observation):
            assert observation.shape == normed.observation_space.shape
            return 0

    duelenv.evaluate(normed, Flat())
    np.testing.assert_array_equal(normed.obs_rms.mean, before)
    assert normed.update_running_mean


def test_what_cannot_be_judged_says_so():
    with pytest.raises(duelenv.UserError, match="needs a duelenv environment"):
        duelenv.evaluate(gymnasium.make("CartPole-v1"), First())
    side_by_side = gymnasium.make_vec(
        "duelenv/FeatureDuel-v0", num_envs=2, vectorization_mode="sync", num_candidates=4, dim=3
    )
    with pytest.raises(duelenv.UserError, match="vector_entry_point"):
        duelenv.evaluate(side_by_side, First())
    env = make_scalar("duelenv/FeatureDuel-v0")
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=r"FrameStackObservation.*rounds before"):
        duelenv.evaluate(FrameStackObservation(env, 2), First())


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert duelenv.__version__ == version("duelenv")


@pytest.mark.parametrize("judge", [duelenv.evaluate, lambda env, agent, split: env.evaluate(agent, split)])
@pytest.mark.parametrize("world", EVERY)
def test_a_misspelt_split_is_refused_by_every_world(world, judge):
    env = make_vector(world, 2, horizon=3)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"split='tset' is unknown: did you mean 'test'\? \(choose from test, train\)"):
        judge(env, First(), "tset")


@pytest.mark.parametrize(
    ("env", "agent", "message"),
    [
        ("duelenv/FeatureDuel-v0", First(), "got 'duelenv/FeatureDuel-v0'; pass one made with gymnasium.make"),
        (First(), make_scalar("duelenv/MatrixDuel-v0"), r"evaluate\(env, agent\), the environment first"),
        (
            make_scalar("duelenv/MatrixDuel-v0"),
            "thompson",
            r"agent is 'thompson', .*duelenv.agents.make\('thompson', env",
        ),
        (make_scalar("duelenv/MatrixDuel-v0"), None, "agent is None, expected something with a method 'recommend'"),
    ],
)
def test_what_is_no_world_or_no_agent_is_one_sentence(env, agent, message):
    with pytest.raises(UserError, match=message):
        duelenv.evaluate(env, agent)


def test_a_world_of_ones_own_need_not_look_at_the_split():
    class Careless(MatrixDuelVectorEnv):
        def evaluate(self, agent, split="test"):
            return {}

    env = Careless([[0.5, 0.7], [0.3, 0.5]], num_envs=2)
    assert duelenv.evaluate(env, First(), "train") == {}
    with pytest.raises(UserError, match="split='tset' is unknown"):
        duelenv.evaluate(env, First(), "tset")
