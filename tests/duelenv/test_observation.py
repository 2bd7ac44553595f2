"""A lazy observation is a dict in every way of reading, and draws each value once."""

import copy
import pickle

import numpy as np
import pytest

from duelenv.observation import LazyObservation

READERS = {
    "index": lambda observation: observation["a"],
    "get": lambda observation: observation.get("a"),
    "values": lambda observation: next(iter(observation.values())),
    "items": lambda observation: dict(observation.items())["a"],
    "dict": lambda observation: dict(observation)["a"],
    "unpacking": lambda observation: {**observation}["a"],
    "union": lambda observation: ({} | observation)["a"],
    "copy": lambda observation: observation.copy()["a"],
    "deepcopy": lambda observation: copy.deepcopy(observation)["a"],
    "pickle": lambda observation: pickle.loads(pickle.dumps(observation))["a"],
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_every_way_of_reading_gives_the_value(read):
    observation = LazyObservation({"a": lambda: np.arange(3)})
    np.testing.assert_array_equal(read(observation), np.arange(3))


def test_nothing_is_drawn_before_it_is_read_and_then_once():
    calls = []

    def draw():
        calls.append(1)
        return np.zeros(2)

    observation = LazyObservation({"a": draw, "b": lambda: np.ones(1)})
    assert list(observation) == ["a", "b"]
    assert "a" in observation
    assert len(observation) == 2
    assert observation.keys() == {"a": 0, "b": 0}.keys()
    assert not calls
    assert observation["a"] is observation["a"]
    assert len(calls) == 1
    assert observation.is_drawn("a")
    assert not observation.is_drawn("b")
