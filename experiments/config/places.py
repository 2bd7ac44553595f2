"""Where in a config a setting stands, for the sentence about one that was written a level too high or too low.

Loads worlds, oracles and policies only to read what they take, and only once something is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.prompt_sources import PROMPT_SOURCES
from duelenv.experiments.config.settings import BudgetConfig, full_id, read_modules
from duelenv.experiments.config.worlds import ELSEWHERE, parameters_of, world_settings
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.policies.registry import POLICIES

__all__ = ["misplaced", "of_world"]

#: What the runner reads of `env` itself.
_ROWS = ("num_envs", "batch")


def of_world(raw: Mapping[str, Any]) -> list[str]:
    """Name the settings under `env` in the world of a config; none where the world is not known.

    Args:
        raw: A parsed config. Of its modules those of the project are loaded, which may register the world, and no
            others: a sentence about somebody else's config runs nothing of theirs.
    """
    env = raw.get("env")
    world = env.get("id") if isinstance(env, Mapping) else env
    if not isinstance(world, str):
        return []
    try:
        load_modules([module for module in read_modules(raw.get("modules")) if module.startswith("duelenv.")])
        taken = world_settings(full_id(world))
    except UserError:  # an unknown world and a module that cannot be loaded are refused elsewhere
        return []
    return [*(name for name in taken if name not in ELSEWHERE), *_ROWS]


def misplaced(
    key: object, raw: Mapping[str, Any], top: Iterable[str], *, within: str = "", also: Iterable[str] = ()
) -> str:
    """Write the tail of a sentence about a key that the top level has not: where it stands, or what names are near.

    Args:
        key: What the user wrote.
        raw: The whole config, parsed.
        top: Keys of the top level.
        within: Where the config stands, if it is a part of a larger file.
        also: Keys of the config itself that may have been meant, then.
    """
    places = [*([key] if key in also else []), *_places(key, raw)] if isinstance(key, str) else []
    places = [f"{within}.{place}" if within else place for place in places]
    if not places:
        return choices(key, top)
    several = "one of " if len(places) > 1 else ""
    return f"it stands a level lower; write {several}{', '.join(repr(place) for place in places)}"


def _places(key: str, raw: Mapping[str, Any]) -> Iterator[str]:
    if key in of_world(raw):
        yield f"env.{key}"
    if key in (item.name for item in dataclasses.fields(BudgetConfig)) and key != "labels":
        yield f"budget.{key}"
    for section in ("policy", "prompts"):
        given = raw.get(section)
        if given is not None:
            yield from _of_source(key, section, given)
    for section in ("oracle", "evaluation_oracle"):
        given = raw.get(section)
        name = given.get("name") if isinstance(given, Mapping) else given
        if isinstance(name, str) and key in _of_oracle(name):
            yield f"{section}.{key}"
    agents = raw.get("agents")
    for label, settings in agents.items() if isinstance(agents, Mapping) else ():
        if isinstance(settings, Mapping) and key in settings:
            yield f"agents.{label}.{key}"


def _of_source(key: str, section: str, given: Any) -> Iterator[str]:
    """Where a setting of a policy or of prompts stands: with `path` beside it, with another source inside it."""
    sources: Registry[Any] = POLICIES if section == "policy" else PROMPT_SOURCES
    source = given if isinstance(given, str) else next((name for name in sources if name in given), None)
    if source is None or source not in sources:
        source = "path"
    if key in sources:
        yield f"{section}.{key}"
    elif key in [name for name in parameters_of(sources[source]) if name != "path"]:
        yield f"{section}.{key}" if source == "path" else f"{section}.{source}.{key}"


def _of_oracle(name: str) -> list[str]:
    from duelenv.oracles.base import ORACLES

    return [taken for taken in parameters_of(ORACLES[name]) if taken != "home"] if name in ORACLES else []
