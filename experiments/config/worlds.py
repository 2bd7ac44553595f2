"""Worlds as a config names them: their classes, which settings they take, and what stands for a matrix."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from duelenv.ground.checks import choices, unknown_name
from duelenv.ground.errors import UserError

__all__ = ["ELSEWHERE", "known_worlds", "make_matrix", "parameters_of", "world_class", "world_settings"]

#: Settings of a world that have a key of their own in the config.
ELSEWHERE: Final = {
    "num_envs": "env.num_envs",
    "batch": "env.batch",
    "policy": "policy",
    "oracle": "oracle",
    "evaluation_oracle": "evaluation_oracle",
    "prompts": "prompts",
    "test_prompts": "prompts",
    "data": "data",
    "budget": "budget.labels",
}


def world_class(world: str) -> Any:
    """Find the class behind a world's vector form.

    Raises:
        UserError: No world of this id.
    """
    import gymnasium

    spec = gymnasium.registry.get(world)
    if spec is None:
        raise unknown_name("world", world, known_worlds(), extensible=True)
    entry = spec.vector_entry_point
    if entry is None:
        raise UserError(f"The world {world!r} has no vector form: register it with a 'vector_entry_point'")
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        return getattr(importlib.import_module(module), attribute)
    return entry


def known_worlds() -> list[str]:
    """Return the ids of all worlds that a config can name, those that were registered with Gymnasium alone included."""
    import gymnasium

    import duelenv

    def is_own(entry: Any) -> bool:
        place = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
        return entry is not None and not place.startswith("gymnasium.")

    beside = [world for world, spec in gymnasium.registry.items() if is_own(spec.vector_entry_point)]
    return sorted({*duelenv.WORLDS, *beside})


def world_settings(world: str) -> list[str]:
    """Name the settings that a world's vector form takes."""
    return list(parameters_of(world_class(world)))


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Find what a function takes by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def make_matrix(setting: Any) -> Any:
    """Make the preference matrix that `env.matrix` stands for, float64 [K, K].

    Args:
        setting: Rows of numbers, the path of a file, or a generator: its name, or a mapping with its name and its
            settings, such as `{name: bradley_terry, utilities: [1, 0, -1]}`.

    Raises:
        UserError: Not a preference matrix, no such file, or an unknown generator or setting.
    """
    from duelenv.oracles import matrices

    if isinstance(setting, str) and setting in matrices.MATRICES:
        setting = {"name": setting}
    if not isinstance(setting, Mapping):
        return matrices.load_matrix(setting)
    given = dict(setting)
    if "name" not in given:
        raise UserError(f"'env.matrix' has no 'name': {choices('', matrices.MATRICES)}")
    return matrices.make_matrix(given.pop("name"), **given)
