"""Settings that a user wrote by name: worlds refuse what they do not take, in a sentence, wherever they are made."""

import copy
import inspect
import pickle

import gymnasium
import pytest

import duelenv
from duelenv import UserError
from duelenv.worlds.matrix_duel import MatrixDuelEnv, MatrixDuelVectorEnv

DUELS = [[0.5, 0.7], [0.3, 0.5]]


class Own(MatrixDuelVectorEnv):
    """Hands on what it does not take itself."""

    def __init__(self, slope=1.0, **others):
        super().__init__(DUELS, **others)


class OwnScalar(MatrixDuelEnv):
    """Takes what `MatrixDuelEnv` takes."""


def own_by_decorator(**settings):
    duelenv.register_world("mine/Calls-v0")(Own)
    return gymnasium.make("mine/Calls-v0", **settings)


@pytest.fixture(autouse=True)
def _left_as_it_was(monkeypatch):
    monkeypatch.setattr(duelenv.WORLDS, "_parts", dict(duelenv.WORLDS._parts))
    yield
    gymnasium.registry.pop("mine/Calls-v0", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gymnasium.make("duelenv/FeatureDuel-v0", horzon=3),
            r"^world 'duelenv/FeatureDuel-v0' has no setting 'horzon': did you mean 'horizon'\?",
        ),
        (lambda: gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, horzon=3), "did you mean 'horizon'"),
        (lambda: gymnasium.make("duelenv/MatrixDuel-v0"), "^MatrixDuelEnv needs the setting 'matrix'; give it$"),
        (
            lambda: gymnasium.make("duelenv/AlignmentDuel-v0"),
            "^AlignmentDuelEnv needs the settings 'policy', 'oracle' and 'prompts'; give them$",
        ),
        (
            lambda: gymnasium.make("duelenv/MatrixDuel-v0", matrix=DUELS, num_envs=3),
            "num_envs is 3, but the scalar form",
        ),
        (lambda: own_by_decorator(num_envs=3), r"num_envs is 3, .*gymnasium.make_vec\(ID, num_envs=3\)"),
        (lambda: own_by_decorator(slpe=3), "did you mean 'slope'"),
        (lambda: Own(num_envs=2, horzon=3), r"did you mean 'horizon'\? \(choose from .*slope"),
        (lambda: OwnScalar(matrix=DUELS, horzon=3), "did you mean 'horizon'"),
    ],
)
def test_a_misspelt_or_missing_setting_of_a_world_is_one_sentence(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_what_a_world_takes_reaches_it_as_before():
    assert Own(2.0, num_envs=4, batch=2).replicates == 2
    assert OwnScalar(DUELS, horizon=3).vector.horizon == 3
    assert own_by_decorator(horizon=3).unwrapped.vector.horizon == 3
    assert list(inspect.signature(MatrixDuelVectorEnv).parameters)[:2] == ["matrix", "num_envs"]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_world_is_copied_without_its_settings(again):
    assert again(MatrixDuelVectorEnv(DUELS, num_envs=4)).num_envs == 4
