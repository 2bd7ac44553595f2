"""The worlds of the leaderboard as they are written, made into `WorldSet`; nothing is built or played.

A set of worlds has a name with a version, and each of its worlds belongs to `reporting` or to `development`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.config.loading import parse_yaml
from duelenv.experiments.efficiency.made_pools import check_made
from duelenv.experiments.results.metrics import check_name
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["SETS", "Ceiling", "Group", "World", "WorldSet", "current", "read_worlds"]

#: What a world belongs to.
SETS: Final = ("reporting", "development")
#: Of the set that is played.
_CURRENT: Final = "duel-1.yaml"
#: For the middle half of all runs to be a whole number of them, however many worlds there are.
_QUARTERS: Final = 4


@dataclass(frozen=True)
class Ceiling:
    """What scores 1 in a world.

    Attributes:
        value: A figure that no agent passes; None where `agent` measures it.
        agent: Name and settings of an agent that is told the utility; None where the figure is known.
        about: In words.
    """

    value: float | None
    agent: Mapping[str, Any] | None
    about: str

    def __post_init__(self) -> None:
        if (self.value is None) == (self.agent is None):
            raise UserError("A 'ceiling' needs 'value' or 'agent', and not both: give one of them")


@dataclass(frozen=True)
class World:
    """A world with what is measured in it.

    Attributes:
        name: Unique in its set of worlds.
        group: Name of the group it counts in.
        kept_for: "reporting" or "development".
        about: In words.
        metric: Column of the results, at the end of the run.
        floor: Name of the agent whose mean scores 0.
        ceiling: What scores 1.
        shared: Settings of a run but for its agents, seeds and `env`.
        env: Settings of the world.
        pool: What its recorded responses are made of, see `duelenv.experiments.efficiency.made_pools`; None for none.
        first_seed: Of its seeds.
        seeds: How many.
        settings: That every agent is given here.
        needs: Settings of the world by the name of an agent that needs them otherwise.
    """

    name: str
    group: str
    kept_for: str
    about: str
    metric: str
    floor: str
    ceiling: Ceiling
    shared: Mapping[str, Any]
    env: Mapping[str, Any]
    pool: Mapping[str, Any] | None
    first_seed: int
    seeds: int
    settings: Mapping[str, Any]
    needs: Mapping[str, Mapping[str, Any]]

    def digest(self, agent: str) -> str:
        """Digest all that decides what an agent meets here, 12 hexadecimal digits; the same on every machine."""
        decided = [
            [self.name, self.metric, self.first_seed, self.seeds],
            [self.shared, self.env, self.pool, self.settings, self.needs.get(agent, {})],
        ]
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Group:
    """Worlds whose scores are averaged, since they ask one question and have as many seeds each.

    Attributes:
        name: In options and tables.
        title: As a heading.
        figure: What is measured, in words.
        worlds: Of both sets.
    """

    name: str
    title: str
    figure: str
    worlds: tuple[World, ...]

    def of(self, kept_for: str) -> tuple[World, ...]:
        """Find its worlds of one set."""
        return tuple(world for world in self.worlds if world.kept_for == kept_for)


@dataclass(frozen=True)
class WorldSet:
    """A named, versioned set of worlds.

    Attributes:
        version: Its name with its version, such as "duel-1".
        groups: Worlds by what is asked.
        left_out: Registered agents that are no entrants, with the reason.
    """

    version: str
    groups: tuple[Group, ...]
    left_out: Mapping[str, str]

    @property
    def worlds(self) -> tuple[World, ...]:
        """All worlds."""
        return tuple(world for group in self.groups for world in group.worlds)

    def chosen(self, kept_for: str, only: tuple[str, ...] = ()) -> tuple[World, ...]:
        """Find the worlds of one set.

        Args:
            kept_for: "reporting" or "development".
            only: Names of worlds or groups; all of the set if empty.

        Raises:
            UserError: A name that the set does not have.
        """
        checks.one_of("set", kept_for, SETS)
        own = [world for group in self.groups for world in group.of(kept_for)]
        known = [*dict.fromkeys(world.group for world in own), *(world.name for world in own)]
        for name in only:
            if name not in known:
                raise checks.unknown_name(f"{kept_for} world or group", name, known)
        return tuple(world for world in own if not only or world.name in only or world.group in only)


def current() -> WorldSet:
    """Find the set of worlds that is played."""
    path = Path(str(resources.files("duelenv.experiments.leaderboard"))) / _CURRENT
    return read_worlds(parse_yaml(path.read_text(encoding="utf-8")))


def read_worlds(raw: Mapping[str, Any]) -> WorldSet:
    """Check a plain mapping and make the set of worlds.

    Args:
        raw: Parsed YAML, as in `duel-1.yaml`.

    Raises:
        UserError: The first setting that is unknown, missing or of the wrong kind.
    """
    checks.refuse_unknown("", raw, ("version", "left_out", "groups", "seeds"))
    first = {kind: checks.integer(f"'seeds.{kind}'", raw["seeds"].get(kind), low=0) for kind in SETS}
    groups = tuple(_group(name, checks.mapping(f"'groups.{name}'", own), first) for name, own in raw["groups"].items())
    names = [world.name for group in groups for world in group.worlds]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two worlds are called {name!r}: give each a name of its own")
    left_out = {str(name): checks.text(f"'left_out.{name}'", why) for name, why in raw.get("left_out", {}).items()}
    return WorldSet(checks.text("'version'", raw["version"]), groups, left_out)


def _group(name: str, raw: dict[str, Any], first: Mapping[str, int]) -> Group:
    here = f"groups.{name}"
    known = ("title", "figure", "seeds", "floor", "ceiling", "base", "settings", "needs", "worlds")
    checks.refuse_unknown(here, raw, known)
    seeds = checks.integer(f"'{here}.seeds'", raw["seeds"], low=_QUARTERS)
    if seeds % _QUARTERS:
        raise UserError(
            f"'{here}.seeds' is {seeds}, expected a multiple of {_QUARTERS}, of which half is in the middle"
        )
    worlds = tuple(
        _world(label, checks.mapping(f"'{here}.worlds.{label}'", own), name, raw, seeds, first)
        for label, own in checks.mapping(f"'{here}.worlds'", raw["worlds"]).items()
    )
    return Group(check_name(name, "A group"), str(raw["title"]), str(raw["figure"]), worlds)


def _world(
    name: str, own: dict[str, Any], group: str, raw: Mapping[str, Any], seeds: int, first: Mapping[str, int]
) -> World:
    here = f"groups.{group}.worlds.{name}"
    checks.refuse_unknown(here, own, ("about", "set", "metric", "base", "env", "pool", "ceiling"))
    kept_for = checks.one_of(f"{here}.set", own.get("set", "reporting"), SETS)
    base = {**raw["base"], **own.get("base", {})}
    env = {**raw["base"].get("env", {}), **own.get("base", {}).get("env", {}), **own.get("env", {})}
    pool = own.get("pool")
    if pool is not None:
        check_made(f"{here}.pool", checks.mapping(f"'{here}.pool'", pool))
    ceiling = checks.mapping(f"'{here}.ceiling'", own.get("ceiling", raw["ceiling"]))
    return World(
        name=check_name(name, "A world"),
        group=group,
        kept_for=kept_for,
        about=checks.text(f"'{here}.about'", own["about"]),
        metric=checks.text(f"'{here}.metric'", own["metric"]),
        floor=checks.text(f"'groups.{group}.floor'", raw["floor"]),
        ceiling=Ceiling(ceiling.get("value"), ceiling.get("agent"), str(ceiling.get("about"))),
        shared={key: value for key, value in base.items() if key != "env"},
        env=env,
        pool=pool,
        first_seed=first[kept_for],
        seeds=seeds,
        settings=checks.mapping(f"'groups.{group}.settings'", raw.get("settings")),
        needs=checks.mapping(f"'groups.{group}.needs'", raw.get("needs")),
    )
