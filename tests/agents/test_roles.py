"""Equal texts are never asked where a label is what counts; where regret is, a response may meet itself."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

import duelenv  # noqa: F401 (registers the worlds)
from duelenv.agents import make, names
from duelenv.agents.roles import equal_texts, with_sources
from duelenv.data import Pool
from duelenv.ground.errors import UserError

ROUNDS = 60


def world(**settings):
    """Make a pool in which the best is found soon: a point's length decides, and two of five texts are the same."""
    texts = [["a", "a", "b " * 9, "c " * 30, "c " * 60] for _ in range(12)]
    utilities = [[0.0, 0.0, 1.0, 6.0, 12.0]] * 12
    pool = Pool(tuple(f"prompt {number}" for number in range(12)), texts, utilities)
    settings = {"num_envs": 4, "batch": 1, "dim": 4, "horizon": ROUNDS} | settings
    return gymnasium.make_vec("duelenv/PoolDuel-v0", data=pool, **settings)


def played(env, agent):
    """Return which duels of a run were between equal texts, bool [T, N]."""
    observation, _ = env.reset(seed=0)
    rows, equal = np.arange(env.num_envs), []
    for _ in range(ROUNDS):
        actions = agent.act(observation)
        first, second = (observation["responses"][rows, actions[:, side]] for side in (0, 1))
        equal.append(first == second)
        before = observation
        observation, labels, _, _, info = env.step(actions)
        agent.update(before, actions, labels, info.get("late"))
    return np.array(equal, bool)


def agents_of_pools():
    env = world()
    for name in names():
        try:
            make(name, env, seed=0)
        except UserError:
            continue
        yield name


@pytest.mark.parametrize("name", list(agents_of_pools()))
def test_no_agent_asks_which_of_two_equal_texts_is_better(name) -> None:
    env = world()
    assert not played(env, make(name, env, seed=0)).any()


@pytest.mark.parametrize("name", ["thompson", "vids", "maxminlcb", "neural_ucb", "vacdb", "random", "selm"])
def test_where_it_may_a_response_meets_itself(name) -> None:
    """Who has found the best stops paying; `random` and `selm` hit upon it."""
    env = world(self_duels=True)
    assert played(env, make(name, env, seed=0))[ROUNDS // 2 :].any()


def test_numbers_of_equal_texts() -> None:
    view = world().unwrapped.view()
    texts = np.array([["b", "a", "b", "c", "a"], ["a"] * 5], object)
    assert equal_texts(view, {"responses": texts}).tolist() == [[0, 1, 0, 3, 1], [0] * 5]
    # A world that shows no texts knows its candidates apart by their numbers.
    assert equal_texts(view, {"features": np.zeros((2, 5, 3))}).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert equal_texts(world(self_duels=True).unwrapped.view(), {"responses": texts}) is None


def test_a_row_of_one_text_still_plays() -> None:
    pool = Pool(("one", "other"), [["same"] * 3] * 2, [[0.0, 0.0, 0.0]] * 2)
    env = gymnasium.make_vec("duelenv/PoolDuel-v0", num_envs=2, data=pool, dim=4)
    agent = make("thompson", env, seed=0)
    actions = agent.act(env.reset(seed=0)[0])
    assert (actions[:, 0] != actions[:, 1]).all()


def test_a_refusal_names_the_whole_setting_that_would_do() -> None:
    view = replace(world().unwrapped.view(), sources=("policy", "recorded"), source_counts=(3, 2))
    assert with_sources(view, policy=2, reference=4) == "sources={'policy': 3, 'recorded': 2, 'reference': 4}"
    assert with_sources(view, policy=5) == "sources={'policy': 5, 'recorded': 2}"
