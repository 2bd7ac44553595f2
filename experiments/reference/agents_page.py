"""The page of agents: where each plays, and every setting it reads there, as it reads them."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import gymnasium

from duelenv.agents.asking import ASK, PROMPTS
from duelenv.agents.base import AGENTS
from duelenv.agents.parts import BELIEFS
from duelenv.agents.teaching import TEACHING
from duelenv.core import AgentView
from duelenv.experiments.config.agent_settings import settings_read
from duelenv.experiments.reference.docstrings import meanings, summary
from duelenv.experiments.reference.markdown import cell, code, table
from duelenv.experiments.reference.parts_page import common_names
from duelenv.ground.errors import UserError

__all__ = ["agents_page"]

_INTRODUCTION = """# Agents and their parts

Every agent, the worlds it plays in, and the settings it reads there with its own defaults. `M` is MatrixDuel, `F`
FeatureDuel (PoolDuel and other worlds with features alike), `A` AlignmentDuel. An agent that trains a policy reads more
in `A`: what it reads there besides is listed once, under [Settings](#settings). Agents that play
in `M` alone also play FeatureDuel with `fixed: true`. What the methods do is told in
[K arms](../karmed.md), [Contexts](../contextual.md) and [A language model](../alignment.md).
"""

#: A world of each kind. The last has candidates of every source, so that nobody is refused for want of one.
_WORLDS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "M": ("duelenv/MatrixDuel-v0", {"matrix": [[0.5, 0.6], [0.4, 0.5]]}),
    "F": ("duelenv/FeatureDuel-v0", {}),
    "A": (
        "duelenv/AlignmentDuel-v0",
        {
            "prompts": [f"tell me {number}" for number in range(5)],
            "oracle": "length",
            "selective": True,
            "sources": {"policy": 2, "reference": 2, "start": 2, "pilaf_plus": 1, "pilaf_minus": 1},
        },
    ),
}

#: Parts that many agents share: of these a row of the table has what the agent sets otherwise.
_SHARED: Final = (
    "asking.prompts",
    "beliefs.ensemble",
    "beliefs.laplace",
    "beliefs.linear_logistic",
    "contextual.agent",
    "lessons",
    "objective",
    "parts",
    "teaching",
    "trainer",
)


def agents_page() -> str:
    """Write of agents, ask rules, prompt rules, beliefs and teaching rules with what they read."""
    views = dict(_views())
    readers: dict[str, list[str]] = {}
    kinds: dict[str, type] = {}

    def note(taken: Any, who: str) -> None:
        kinds[_place(taken)] = type(taken)
        if who not in readers.setdefault(_place(taken), []):
            readers[_place(taken)].append(who)

    rows = []
    for name in common_names(AGENTS):
        read = {key: _read(name, view, {}) for key, view in views.items()}
        own: dict[str, str] = {}
        for taken in (one for several in read.values() for one in several or ()):
            note(taken, code(name))
            for item in dataclasses.fields(taken):
                value = getattr(taken, item.name)
                if _place(taken).rpartition(".")[0] not in _SHARED or value != _default_value(item):
                    own.setdefault(item.name, repr(value))
        where = " ".join(key for key, taken in read.items() if taken is not None)
        listed = ", ".join(f"{code(setting)} {default}" for setting, default in own.items())
        rows.append([code(name), where, cell(_about(AGENTS[name])), cell(listed)])
    parts = [_INTRODUCTION, table(["agent", "plays in", "what it is", "settings and defaults"], rows)]
    for kind, registry, about in _KINDS:
        parts.append(f"## {about}\n")
        rows = []
        for name in common_names(registry):
            where, taken_here = _of_part(kind, name, views)
            for taken in taken_here:
                note(taken, code(f"{kind}: {name}"))
            names = ", ".join(code(item.name) for taken in taken_here for item in dataclasses.fields(taken))
            rows.append([code(name), where, cell(summary(registry[name])), names])
        parts.append(table(["name", "works in", "what it is", "settings of its own"], rows))
    parts.append("## Settings\n\nWhat is read together stands together; defaults are those of the part itself.\n")
    for place in sorted(kinds):
        said = meanings(kinds[place])
        parts.append(f"### {place}\n\n{cell(summary(kinds[place]))} Read by {_several(readers[place])}.\n")
        listed_rows = [
            [code(item.name), code(_default(item)), cell(said.get(item.name, ""))]
            for item in dataclasses.fields(kinds[place])
        ]
        parts.append(table(["setting", "default", "meaning"], listed_rows))
    return "\n".join(parts)


#: Parts of composed agents: the setting that names them, their registry, and the heading.
_KINDS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("ask", ASK, "Ask rules (`ask` of `composed`): which two candidates duel"),
    ("prompts", PROMPTS, "Prompt rules (`prompts`, where a world is selective): which rows ask"),
    ("belief", BELIEFS, "Beliefs (`belief`)"),
    ("teach", TEACHING, "Teaching rules (`teach`): what a policy learns besides the labels"),
)


def _of_part(kind: str, name: str, views: Mapping[str, AgentView]) -> tuple[str, list[Any]]:
    """Where a part works, and the settings that it reads beside those of an agent without it."""
    where: list[str] = []
    found: dict[str, Any] = {}
    for key in ("F", "A"):
        settings = {kind: name} | ({"asked": 1} if kind == "prompts" else {})
        # A belief is made where somebody wants it.
        settings |= {"ask": "infomax"} if kind in ("belief", "prompts") else {}
        plain = {
            _place(one) for one in _read("composed", views[key], {k: v for k, v in settings.items() if k != kind}) or ()
        }
        read = _read("composed", views[key], settings)
        if read is not None:
            where.append(key)
            found |= {
                _place(one): one for one in read if _place(one) not in plain and not _place(one).startswith("beliefs.")
            }
            if kind == "belief":
                found |= {_place(one): one for one in read if _place(one).startswith("beliefs.")}
    return " ".join(where), list(found.values())


def _several(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 25 else f"{len(names)} agents and parts"


def _place(taken: Any) -> str:
    """Where a settings dataclass lies, such as `trainer.TrainerSettings`."""
    return f"{type(taken).__module__}.{type(taken).__name__}".removeprefix("duelenv.agents.")


def _about(builder: Any) -> str:
    """Say what an agent is, by its builder or, where that only says that it builds, by the module's first sentence."""
    said = summary(builder)
    if not said.startswith("Build "):
        return said
    return re.split(r"(?<! al)\. ", summary(sys.modules[builder.__module__]))[0].removesuffix(".") + "."


def _default_value(item: dataclasses.Field[Any]) -> Any:
    """Find a field's default; MISSING where it has to be given."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _default(item: dataclasses.Field[Any]) -> str:
    value = _default_value(item)
    return "needed" if value is dataclasses.MISSING else repr(value)


def _views() -> Iterator[tuple[str, AgentView]]:
    from duelenv import oracles
    from duelenv.policies import toy_policy

    for key, (world, given) in _WORLDS.items():
        settings = dict(given)
        if "oracle" in settings:
            settings |= {"oracle": oracles.make(settings["oracle"]), "policy": toy_policy()}
        env: Any = gymnasium.make_vec(world, num_envs=2, horizon=10, **settings)
        # One replicate, as there every belief can be had.
        yield key, dataclasses.replace(env.unwrapped.view(), batch=2) if key == "F" else env.unwrapped.view()
        env.close()


def _read(name: str, view: AgentView, settings: Mapping[str, Any]) -> list[Any] | None:
    """Say what an agent reads in a world, as dataclasses with its defaults; None where it does not play there."""
    try:
        return settings_read(name, view, 0, settings)
    except UserError:
        return None
