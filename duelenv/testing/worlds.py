"""The check of vector worlds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError
from duelenv.testing.failure import require, same

_ROUNDS = 4


def check_world(make: Callable[[], Any]) -> None:
    """Check a vector world, a subclass of `duelenv.DuelVectorEnv`.

    The same rounds from the same seed and actions, others from another; observations that fit their space; labels in
    [0, 1] or NaN, as many queries as labels were asked for; an end after `horizon` rounds and not before; wrong actions
    that are refused and change nothing; a state taken in the middle that goes on exactly; and no truth in the view.

    Args:
        make: Makes the world.

    Raises:
        CheckFailed: It breaks its contract.
    """
    env = make()
    world = env.unwrapped
    first = _rounds(env, 0)
    require(
        same(first, _rounds(make(), 0)), "two worlds of one seed showed or answered differently to the same actions"
    )
    require(
        same(first, _rounds(env, 0)), "a world that was reset with the same seed went otherwise than the first time"
    )
    require(not same(first, _rounds(env, 1)), "two seeds gave the same rounds")
    _check_values(make())
    _check_end(make())
    _check_mistakes(make())
    _check_state(make)
    view = world.view()
    require(
        view.num_envs == world.num_envs
        and view.num_candidates == world.num_candidates
        and view.horizon == world.horizon,
        "the view's sizes are not the world's",
    )


def _actions(world: Any, number: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(number)
    actions = rng.integers(0, world.num_candidates, (world.num_envs, 2))
    return np.column_stack([actions, np.ones(len(actions), np.int64)]) if world.selective else actions


def _rounds(env: Any, seed: int) -> list[Any]:
    """Collect everything that a world says in some rounds."""
    world = env.unwrapped
    observation, _ = env.reset(seed=seed)
    said: list[Any] = [{name: np.asarray(value) for name, value in observation.items()}]
    for number in range(min(_ROUNDS, world.horizon)):
        observation, labels, terminated, truncated, info = env.step(_actions(world, number))
        shown = {name: np.asarray(value) for name, value in observation.items()}
        said.append([shown, labels, terminated, truncated, dict(info["regret"]), info["queries"]])
    return said


def _check_values(env: Any) -> None:
    world = env.unwrapped
    observation, _ = env.reset(seed=0)
    asked = 0
    for number in range(min(_ROUNDS, world.horizon)):
        for name, space in world.view().observation_space.spaces.items():
            for row, value in enumerate(observation[name]):
                require(space.contains(value), f"{name!r} of row {row} is {value!r}, expected one of {space}")
        observation, labels, terminated, _, info = env.step(_actions(world, number))
        labels = np.asarray(labels)
        known = labels[~np.isnan(labels)]
        require(
            labels.shape == (world.num_envs,) and labels.dtype == np.float64 and ((known >= 0) & (known <= 1)).all(),
            f"step returned labels {labels!r}, expected float64 [{world.num_envs}] in [0, 1] or NaN",
        )
        require(
            not np.any(terminated), "the world terminated, expected that episodes are truncated by the horizon alone"
        )
        asked += world.num_envs
        queries = int(np.sum(info["queries"]))
        require(queries == asked, f"info['queries'] adds up to {queries} after {asked} labels were asked for")
        for name, values in info["regret"].items():
            require(
                np.shape(values) == (world.num_envs,) and np.isfinite(values).all(),
                f"the regret {name!r} has shape {np.shape(values)}, expected one finite number of each row",
            )


def _check_end(env: Any) -> None:
    world = env.unwrapped
    env.reset(seed=0)
    for number in range(world.horizon):
        truncated = env.step(_actions(world, number))[3]
        last = number == world.horizon - 1
        require(
            np.all(truncated) if last else not np.any(truncated),
            f"round {number} of {world.horizon} says truncated={truncated!r}, expected {last} of every row",
        )


def _check_mistakes(env: Any) -> None:
    world = env.unwrapped
    env.reset(seed=0)
    env.step(_actions(world, 0))
    before = world.state_dict()
    right = _actions(world, 1)
    for name, wrong in {
        "a candidate that is not there": np.where(np.arange(right.shape[1]) == 0, world.num_candidates, right),
        "a negative candidate": np.where(np.arange(right.shape[1]) == 0, -1, right),
        "a row too few": right[1:],
        "fractions": right + 0.5,
    }.items():
        try:
            env.step(wrong)
        except UserError:
            pass
        else:
            require(False, f"the world took {name} as an action, expected a UserError")
        require(
            same(world.state_dict(), before), f"an action with {name} was refused and changed the world all the same"
        )


def _check_state(make: Callable[[], Any]) -> None:
    one, other = make(), make()
    world = one.unwrapped
    if world.horizon < 2:
        return
    one.reset(seed=0)
    one.step(_actions(world, 0))
    state = one.unwrapped.state_dict()
    expected = one.step(_actions(world, 1))
    other.reset(seed=5)
    other.unwrapped.load_state_dict(state)
    found = other.step(_actions(world, 1))
    require(
        same(found[1], expected[1])
        and all(same(np.asarray(found[0][name]), np.asarray(expected[0][name])) for name in expected[0]),
        "a world that goes on from a state taken in the middle goes otherwise than the one it was taken of",
    )
