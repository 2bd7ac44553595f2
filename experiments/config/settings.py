"""The settings of a config one by one: what each of them holds, and how it is read from plain containers.

Settings that belong to a world, an oracle, a policy or an agent are passed on as they stand and checked by whoever
receives them. A setting that cannot be read is a `UserError`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from duelenv.experiments.folder.layout import LONGEST_NAME
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = [
    "AgentConfig",
    "BudgetConfig",
    "EnvConfig",
    "NamedConfig",
    "distinct_labels",
    "full_id",
    "in_variants",
    "is_word",
    "read_agents",
    "read_budget",
    "read_env",
    "read_label_counts",
    "read_modules",
    "read_name",
    "read_named",
    "read_seeds",
    "read_source",
    "read_table_settings",
    "read_trackers",
    "same_agent",
]

#: World settings that all agents of a comparison must share.
_SHARED_ENV = ("id", "num_envs", "batch", "horizon")


@dataclass(frozen=True)
class EnvConfig:
    """Which world, how many rows, and the world's own settings."""

    id: str
    """Gymnasium id, such as `duelenv/FeatureDuel-v0`."""
    num_envs: int | None = None
    """Rows of a policy world (its batch); worlds with replicates have `seeds * batch` rows instead."""
    batch: int | None = None
    """Contexts per replicate and round, for worlds with replicates."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything else goes to the world: `horizon`, `num_candidates`, ..."""


@dataclass(frozen=True)
class NamedConfig:
    """Something chosen by name, with its settings: an oracle, a policy or prompts."""

    name: str
    """Registered name or source."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that it is made with."""


@dataclass(frozen=True)
class BudgetConfig:
    """How many labels may be asked for."""

    labels: int | None = None
    """By each agent with each seed: what agents are compared at."""
    run: int | None = None
    """By the whole run, with what `evaluate` asks and what is asked again after a death: a fuse that stops the run."""
    price: float | None = None
    """What an answer costs, in any currency; `duelenv run --dry` says what the run may cost."""
    tokens: int | None = None
    """Tokens that the oracles of the whole run may read and write; what is under way counts."""
    money: float | None = None
    """What the oracles of the whole run may cost, in the currency of their prices; what is under way counts."""


@dataclass(frozen=True)
class AgentConfig:
    """One line of the comparison."""

    label: str
    """Name in tables and figures; unique in a run."""
    name: str
    """Registered agent name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the agent is made with."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the world that this agent needs otherwise, such as where candidates come from; `data` is its pool."""


def same_agent(one: AgentConfig, other: AgentConfig) -> bool:
    """Tell whether two lines are the same agent with the same settings, in whatever world."""
    return one.name == other.name and one.settings == other.settings


def read_name(raw: object, key: str = "name") -> str:
    """Read the name of a run or a study, which its folder may have."""
    name = checks.text(f"'{key}'", raw)
    if not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > LONGEST_NAME:
        raise UserError(
            f"'{key}' is {_shown(name)}, expected letters, digits, '.', '_' and '-' only, none of '.-' first, and at "
            f"most {LONGEST_NAME} bytes of them"
        )
    return name


def read_env(raw: object) -> EnvConfig:
    """Read `FeatureDuel`, or `{id: FeatureDuel, batch: 4, horizon: 500}`."""
    if isinstance(raw, str):
        raw = {"id": raw}
    given = checks.mapping("'env'", raw)
    if "id" not in given:
        raise UserError("'env' has no 'id': add one such as 'duelenv/FeatureDuel-v0'")
    name = checks.text("'env.id'", given.pop("id"))
    num_envs, batch = given.pop("num_envs", None), given.pop("batch", None)
    return EnvConfig(
        id=full_id(name),
        num_envs=None if num_envs is None else checks.integer("'env.num_envs'", num_envs, low=1),
        batch=None if batch is None else checks.integer("'env.batch'", batch, low=1),
        settings=given,
    )


def full_id(name: str) -> str:
    """Spell out a world's short name as its Gymnasium id: `FeatureDuel` -> `duelenv/FeatureDuel-v0`.

    An id that has a namespace or a version already is kept.
    """
    if "/" in name:
        return name
    return f"duelenv/{name}" if re.search(r"-v\d+$", name) else f"duelenv/{name}-v0"


def read_agents(raw: object) -> tuple[AgentConfig, ...]:
    """Read `[passive, real]`, or labels with settings: `{passive: {}, mine: {name: thompson, env: {...}}}`."""
    if isinstance(raw, str):
        raise UserError(f"'agents' is {raw!r}, expected a list of names; write [{raw.strip() or 'passive'}]")
    if isinstance(raw, Sequence):
        raw = dict.fromkeys(distinct_labels(raw), None)
    given = checks.mapping("'agents'", raw)
    if not given:
        raise UserError("'agents' is empty: name at least one agent")
    agents = []
    for label, value in given.items():
        settings = checks.mapping(f"'agents.{label}'", value)
        if not re.fullmatch(r"[\w.+-]+", label):
            raise UserError(f"The agent label {label!r} is not usable: use letters, digits, '.', '_', '+' and '-'")
        _check_length(label)
        name = checks.text(f"'agents.{label}.name'", settings.pop("name", label))
        env = _read_changes(f"agents.{label}.env", settings.pop("env", None))
        for key in env:
            if key in _SHARED_ENV:
                raise UserError(f"'agents.{label}.env.{key}' would make the agents unequal: set 'env.{key}' for all")
        agents.append(AgentConfig(label, name, settings, env))
    return tuple(agents)


def _check_length(label: str) -> None:
    """Refuse a label that no folder of a cell could have."""
    if len(label.encode()) > LONGEST_NAME:
        raise UserError(f"The agent label {_shown(label)} is too long: use at most {LONGEST_NAME} bytes")


def _shown(name: str) -> str:
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}..."


def _read_changes(key: str, raw: object) -> dict[str, Any]:
    """Read settings of the world that differ within a run; `data`, which has another place in a config, as there."""
    settings = checks.mapping(f"'{key}'", raw)
    if settings.get("data") is not None:
        settings["data"] = read_table_settings(f"{key}.data", settings["data"])
    return settings


def distinct_labels(listed: Sequence[object]) -> list[str]:
    """Read the names of `agents: [passive, real]`.

    Raises:
        UserError: Not names, or one of them twice.
    """
    labels = [checks.text("'agents'", label) for label in listed]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(
                f"'agents' names {label!r} {labels.count(label)} times: name it once, or give each a label of its own, "
                f"such as {{{label}: {{}}, {label}_b: {{name: {label}}}}}"
            )
    return labels


def in_variants(agents: tuple[AgentConfig, ...], raw: object) -> tuple[AgentConfig, ...]:
    """Put every agent in every variant of the world: `{d10: {dim: 10}}` makes `maxinp` into `maxinp-d10`."""
    variants = checks.mapping("'variants'", raw)
    if not variants:
        return agents
    expanded = []
    for variant, value in variants.items():
        if not re.fullmatch(r"[\w.+]+", variant):
            raise UserError(f"The variant {variant!r} is not usable: use letters, digits, '.', '_' and '+'")
        settings = _read_changes(f"variants.{variant}", value)
        for key in settings:
            if key in _SHARED_ENV:
                raise UserError(f"'variants.{variant}.{key}' cannot differ within a run: set 'env.{key}' for all")
        for agent in agents:
            label = f"{agent.label}-{variant}"
            _check_length(label)
            expanded.append(dataclasses.replace(agent, label=label, env={**agent.env, **settings}))
    return tuple(expanded)


def read_trackers(raw: object) -> tuple[NamedConfig, ...]:
    """Read `tensorboard`, or a list of names and mappings: `[tensorboard, {name: wandb, project: x, strict: true}]`."""
    listed = [raw] if isinstance(raw, str | Mapping) else raw
    if not isinstance(listed, list | tuple):
        raise UserError(f"'trackers' is {raw!r}, expected a list of names, or of mappings with a 'name' and settings")
    trackers = tuple(read_named("trackers", one, what="a tracker, such as tensorboard") for one in listed)
    for tracker in trackers:
        if [one.name for one in trackers].count(tracker.name) > 1:
            raise UserError(f"'trackers' names {tracker.name!r} more than once: keep one")
        checks.flag(f"'strict' of the tracker {tracker.name!r}", tracker.settings.get("strict", False))
    return trackers


def read_named(key: str, raw: object, what: str = "a registered oracle ('duelenv list' shows them)") -> NamedConfig:
    """Read `length`, or `{name: length, scale: 2}`; `what` is wanted by name, for sentences."""
    given = {"name": raw} if isinstance(raw, str) else checks.mapping(f"'{key}'", raw)
    if "name" not in given:
        raise UserError(f"{key!r} has no 'name': add the name of {what}")
    name = checks.text(f"'{key}.name'", given.pop("name"))
    return NamedConfig(name, given)


def read_source(key: str, raw: object, known: Registry[Any], *, modules: bool = False) -> NamedConfig:
    """Read `{toy: {seed: 0}}` or `{path: DIR, ...}`, one source and its settings; in short `toy`, or a path alone.

    Args:
        key: Where it stands.
        raw: What stands there.
        known: Sources by name.
        modules: Whether the config names modules, which register sources and are imported later.
    """
    given = spell_out_source(raw) if isinstance(raw, str) else checks.mapping(f"'{key}'", raw)
    named = [name for name in known if name in given]
    if not named and len(given) == 1:
        named = list(given)
        if not modules or not isinstance(given[named[0]], Mapping | None):
            raise checks.unknown_name(known.kind, named[0], known, extensible=True)
    if len(named) != 1:
        raise UserError(f"{key!r} is {raw!r}, expected exactly one of {', '.join(known)} in it")
    name = named[0]
    value = given.pop(name)
    _refuse_slip_of(known, name, value)
    if name == "path" and not isinstance(value, Mapping):
        return NamedConfig(name, {"path": checks.text(f"'{key}.path'", value), **given})
    for beside in given:
        if checks.near(beside, known):
            raise checks.unknown_name(known.kind, beside, known, extensible=True)
        raise UserError(
            f"Unknown setting {beside!r} in {key!r}: settings of {name!r} stand inside it; write "
            f"'{key}.{name}.{beside}'"
        )
    settings = checks.mapping(f"'{key}.{name}'", value)
    if name == "path":  # the form that `to_dict` writes
        checks.text(f"'{key}.path'", settings.get("path"))
    return NamedConfig(name, settings)


def _refuse_slip_of(known: Registry[Any], name: str, value: object) -> None:
    """Refuse a bare word as a path that is nearly a name, before a hub is asked; a path that is there is absolute."""
    path = value.get("path") if isinstance(value, Mapping) else value
    if name != "path" or not isinstance(path, str) or not is_word(path):
        return
    if checks.near(path, (one for one in known if one != "path")):
        raise checks.unknown_name(known.kind, path, known, extensible=True)


def is_word(path: str) -> bool:
    """Tell whether what should be a path is a word alone, which may be a misspelt name of a source."""
    return re.fullmatch(r"[\w-]+", path) is not None


def spell_out_source(raw: str) -> dict[str, Any]:
    """Spell out the mapping that a short form of a policy or of prompts stands for: `toy`, or a path."""
    return {raw: {}} if raw == "toy" else {"path": raw}


def read_seeds(raw: object, first: object) -> tuple[int, ...]:
    """Read `8`, from `first` on, or `[0, 1, 2]`."""
    if isinstance(raw, list):
        if first is not None:
            raise UserError("'first_seed' goes with a count: leave it out where 'seeds' is a list")
        if not raw:
            raise UserError("'seeds' is an empty list, expected at least one seed")
        values = tuple(checks.integer("'seeds'", value, low=0) for value in raw)
        if len(set(values)) != len(values):
            raise UserError(f"'seeds' is {raw!r}, expected every seed once")
        return values
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        raise UserError(
            f"'seeds' is {raw!r}, expected a count of at least 1 or a list of whole numbers; give for "
            "example seeds=8 or seeds=[0,1,2]"
        )
    start = 0 if first is None else checks.integer("'first_seed'", first, low=0)
    return tuple(range(start, start + raw))


def read_label_counts(key: str, raw: object) -> tuple[int, ...]:
    """Read `100`, or `[100, 200]`, in increasing order."""
    listed = raw if isinstance(raw, list | tuple) else [raw]
    counts = [checks.integer(f"'{key}'", count, low=1) for count in listed]
    if len(set(counts)) != len(counts):
        raise UserError(f"'{key}' is {raw!r}, expected every number of labels once")
    if counts != sorted(counts):
        raise UserError(f"'{key}' is {raw!r}, expected increasing numbers of labels: write {key}={sorted(counts)}")
    return tuple(counts)


def read_budget(raw: object) -> BudgetConfig:
    """Read `500`, or `{labels: 500, run: 10000}`."""
    if not isinstance(raw, int | Mapping):
        raise UserError(f"'budget' is {raw!r}, expected a whole number of labels, or a mapping with 'labels' and 'run'")
    given = {"labels": raw} if isinstance(raw, int) else checks.mapping("'budget'", raw)
    checks.refuse_unknown("budget", given, [item.name for item in dataclasses.fields(BudgetConfig)])
    known = {name: value for name, value in given.items() if value is not None}
    amounts = {name: known.pop(name) for name in ("price", "money") if name in known}
    read: dict[str, Any] = {name: checks.integer(f"'budget.{name}'", value, low=1) for name, value in known.items()}
    read |= {name: checks.number(f"'budget.{name}'", value, above=0.0) for name, value in amounts.items()}
    return BudgetConfig(**read)


def read_table_settings(key: str, raw: object) -> dict[str, Any]:
    """Read `pool.parquet`, or `{path: pool.parquet, score: rating}`."""
    given = {"path": raw} if isinstance(raw, str) else checks.mapping(f"'{key}'", raw)
    if "path" not in given:
        raise UserError(f"'{key}' has no 'path': give the table as {key}=FILE, or {key}.path=FILE beside its settings")
    return {**given, "path": checks.text(f"'{key}.path'", given["path"])}


def read_modules(raw: object) -> tuple[str, ...]:
    """Read `mine.py`, or `[mine.py, package.module]`."""
    if raw is None:
        return ()
    listed = [raw] if isinstance(raw, str) else raw
    if not isinstance(listed, list | tuple):
        raise UserError(f"'modules' is {raw!r}, expected a list of Python files or modules")
    return tuple(checks.text("'modules'", name) for name in listed)
