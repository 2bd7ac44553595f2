"""The page of parts: every name that a config or `make` takes, but agents, with its settings, from the registries."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

from duelenv.experiments.reference.docstrings import settings_of, summary
from duelenv.experiments.reference.markdown import cell, code, table

__all__ = ["common_names", "own_names", "parts_page"]

_INTRODUCTION = """# Parts by name

What a config, `gymnasium.make_vec`, `duelenv.agents.make` and `duelenv.oracles.make` take by name, with every setting
and its default. A setting without a default has to be given. Agents and what they are composed of have a
[page of their own](agents.md).
"""

#: Arguments that the run or the world gives, and no config.
_GIVEN: Final = ("home", "policy", "num_envs", "jobs", "threads", "first", "self", "generators", "difference")


def parts_page() -> str:
    """Write of worlds, oracles, stages and whatever else is chosen by name."""
    return "\n".join([_INTRODUCTION, *_worlds(), *(text for kind in _registries() for text in kind)])


def own_names(parts: Mapping[str, Any] | Any) -> list[str]:
    """List names of the project's own parts: in a process of tests, others are registered too."""
    return [name for name in sorted(parts) if _module(parts[name]).startswith("duelenv.")]


def common_names(parts: Mapping[str, Any] | Any) -> list[str]:
    """List agents, or parts of agents, that every run knows; those of single studies are imported by these alone."""
    return [name for name in own_names(parts) if not _module(parts[name]).startswith("duelenv.experiments.")]


def _module(part: Any) -> str:
    return str(inspect.unwrap(part).__module__ if callable(part) else type(part).__module__)


def _worlds() -> Iterator[str]:
    import duelenv
    from duelenv.experiments.config.worlds import ELSEWHERE, world_class

    yield "## Worlds (`env.id`)\n"
    yield (
        "In a config these stand under `env`; `policy`, `oracle`, `prompts`, `data` and the budget have keys of their "
        "own. `num_envs` follows from `seeds` and `env.batch` in worlds without a policy.\n"
    )
    for world in duelenv.WORLDS:
        made = world_class(world)
        yield f"### {world}\n\n{cell(summary(made))}\n"
        hidden = tuple(name for name in ELSEWHERE if name not in ("batch", "num_envs"))
        rows = [_row(*one) for one in settings_of(made, hidden)]
        yield table(["setting", "default", "meaning"], rows)


def _registries() -> Iterator[Iterator[str]]:
    from duelenv.agents.registry import BONUSES, LOSSES
    from duelenv.experiments.running.backends import BACKENDS
    from duelenv.experiments.trackers import TRACKERS
    from duelenv.labels.stage import STAGES
    from duelenv.oracles.base import ORACLES
    from duelenv.oracles.links import LINKS
    from duelenv.oracles.matrices import MATRICES
    from duelenv.oracles.utilities import UTILITIES
    from duelenv.policies.registry import SAMPLERS
    from duelenv.worlds.encoders import ENCODERS

    yield _kind("Oracles (`oracle`, `evaluation_oracle`)", ORACLES, "Settings that all take: [Oracles](../oracles.md).")
    yield _kind("Stages of labels (`env.stages`)", STAGES, "Explained in [Labels](../labels.md).")
    yield _kind("Preference matrices (`env.matrix` of MatrixDuel)", MATRICES)
    yield _kind("Utilities of features (`env.utility` of FeatureDuel)", UTILITIES)
    yield _kind("Links (`env.link` of FeatureDuel)", LINKS)
    yield _kind("Features of responses (`env.features`)", ENCODERS)
    yield _kind("Losses (`loss`, `loss_settings` of agents that train a policy)", LOSSES)
    yield _kind("Bonuses (`bonus`, `bonus_settings`)", BONUSES)
    yield _kind("Samplers (`policy.sampler`)", SAMPLERS, "Explained in [Models](../models.md).")
    yield _kind("Trackers (`trackers`)", TRACKERS, "Explained in [A run while it goes on](../live.md).")
    yield _kind("Backends (`backend`)", BACKENDS, "Explained in [Runs](../runs.md#on-other-machines).")


def _kind(title: str, parts: Mapping[str, Any] | Any, about: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if about:
        yield f"{about}\n"
    names = own_names(parts)
    yield table(["name", "what it is"], [[code(name), cell(summary(parts[name]))] for name in names])
    for name in names:
        listed = settings_of(parts[name], _GIVEN) if callable(parts[name]) else []
        if listed:
            yield f"### {title.partition(' (')[0].lower()}: {name}\n"
            yield table(["setting", "default", "meaning"], [_row(*one) for one in listed])


def _row(name: str, default: str, meaning: str) -> list[str]:
    return [code(name), code(default) if default else "needed", cell(meaning)]
