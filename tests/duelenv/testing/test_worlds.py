"""The check of worlds: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import numpy as np
import pytest
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv.testing import (
    CheckFailed,
    check_world,
)


@pytest.mark.parametrize("world", duelenv.WORLDS)
def test_worlds_of_the_project_pass(world):
    settings = {"policy": tiny_policy()} if "Alignment" in world else {}
    check_world(lambda: make_vector(world, 4, horizon=3, **settings))


def spoilt(**methods):
    """FeatureDuel with something wrong."""
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    kind = type("Spoilt", (FeatureDuelVectorEnv,), methods)
    return lambda: kind(num_envs=4, num_candidates=3, dim=2, horizon=3)


def stepped(change):
    def step(self, actions):
        from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

        return change(self, *FeatureDuelVectorEnv.step(self, actions))

    return step


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y + 1, e, t, i))}, "step returned labels"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y.astype(np.float32), e, t, i))}, "step returned labels"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y, e | True, t, i))}, "terminated"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t | True, i))}, "says truncated"),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t, i | {"queries": i["queries"] + 1}))},
            "labels were asked for",
        ),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, np.random.default_rng().random(4), e, t, i))},
            "two worlds of one seed",
        ),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t, i | {"regret": {"x": np.full(4, np.nan)}}))},
            "regret 'x'",
        ),
    ],
)
def test_wrong_worlds_fail(methods, message):
    with pytest.raises(CheckFailed, match=message):
        check_world(spoilt(**methods))


def test_a_world_that_takes_anything_or_forgets_fails():
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    def lenient(self, actions):
        actions = np.resize(np.asarray(actions).astype(int) % 3, (4, 2))
        return FeatureDuelVectorEnv.step(self, actions)

    with pytest.raises(CheckFailed, match="took a candidate that is not there as an action"):
        check_world(spoilt(step=lenient))

    def forgetful(self, state):
        observation = FeatureDuelVectorEnv.load_state_dict(self, state)
        self._coins_of_nobody = None
        FeatureDuelVectorEnv.reset(self, seed=99)
        return observation

    with pytest.raises(CheckFailed, match="goes on from a state"):
        check_world(spoilt(load_state_dict=forgetful))
