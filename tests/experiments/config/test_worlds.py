"""Worlds as a config names them: which are known, and what an unknown one is told."""

import gymnasium
import pytest

import duelenv
from duelenv import UserError
from duelenv.experiments.config.worlds import known_worlds, world_class
from duelenv.worlds import WORLDS
from duelenv.worlds.matrix_duel import MatrixDuelVectorEnv


@pytest.fixture(autouse=True)
def _left_as_it_was(monkeypatch):
    monkeypatch.setattr(WORLDS, "_parts", dict(WORLDS._parts))
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def by_decorator(world):
    duelenv.register_world(world)(MatrixDuelVectorEnv)


def by_gymnasium(world):
    gymnasium.register(world, entry_point=duelenv.DuelEnv, vector_entry_point=MatrixDuelVectorEnv)


def by_path(world):
    place = "duelenv.worlds.matrix_duel:MatrixDuelVectorEnv"
    gymnasium.register(world, entry_point=duelenv.DuelEnv, vector_entry_point=place)


@pytest.mark.parametrize("register", [by_decorator, by_gymnasium, by_path])
def test_worlds_of_ones_own_are_among_those_that_may_have_been_meant(register):
    register("mine/ShyDuel-v0")
    with pytest.raises(UserError, match=r"'mine/ShyDul-v0' is unknown: did you mean 'mine/ShyDuel-v0'\?"):
        world_class("mine/ShyDul-v0")
    assert not [world for world in known_worlds() if gymnasium.registry[world].namespace is None]
