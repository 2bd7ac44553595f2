"""What decides a run: the settings of a `RunConfig`, and the checks that make one of plain containers.

Not for reading files (`duelenv.experiments.loading`) nor for building anything: what the settings describe is made by
`duelenv.experiments.assembly`. Settings that belong to a world, an oracle, a policy or an agent are passed on as they
stand and checked by whoever receives them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duelenv.experiments.paths import anchor_paths
from duelenv.ground import checks
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = [
    "EXECUTION_KEYS",
    "SHORTHANDS",
    "AgentConfig",
    "BudgetConfig",
    "EnvConfig",
    "NamedConfig",
    "RunConfig",
    "distinct_labels",
    "full_id",
]

#: Keys that change how a run is carried out or shown but not what it computes; they are no part of its identity.
EXECUTION_KEYS = ("jobs", "backend", "checkpoint_seconds", "baseline", "metric", "better")

#: Keys that are written out when a config is read: `seeds: 8` with `first_seed`, and agents in several worlds.
SHORTHANDS = ("first_seed", "variants")

#: Where a policy and prompts may come from.
_POLICY_SOURCES = ("toy", "path")
_PROMPT_SOURCES = ("toy", "path", "list")

#: Contexts that `evaluate` knows.
_SPLITS = ("test", "train")

#: Which way a metric may be better.
_BETTER = ("lower", "higher")

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
    """Settings of the world that this agent needs otherwise, such as where candidates come from."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run, made by `from_dict`, which checks every value.

    Raises:
        UserError: Settings that do not go together.
    """

    name: str
    """Names the run and its default directory."""
    env: EnvConfig
    """The world."""
    agents: tuple[AgentConfig, ...]
    """The agents to compare, in table order."""
    policy: NamedConfig | None = None
    """The start policy of a policy world: `{toy: {...}}` or `{path: ..., ...}`."""
    oracle: NamedConfig | None = None
    """Who labels."""
    evaluation_oracle: NamedConfig | None = None
    """Who judges held-out responses; the labelling oracle if absent."""
    prompts: NamedConfig | None = None
    """Prompts of a policy world: `{toy: {...}}`, `{path: ..., ...}` or `{list: {train: [...], test: [...]}}`."""
    data: Mapping[str, Any] | None = None
    """Table of recorded responses, for pool worlds: its `path`, and the settings it is read with."""
    labels: str | None = None
    """File of labels from elsewhere, from which every agent learns before the first round; no query of its own."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How many labels may be asked for."""
    seeds: tuple[int, ...] = (0,)
    """One run of each agent per seed; in worlds with replicates one replicate per seed, all from the first."""
    baseline: str = "passive"
    """Label of the agent that all others are compared to."""
    evaluate_every: int = 5
    """Rounds between two evaluations; step 0 and the last step are always evaluated."""
    split: str = "test"
    """Contexts that evaluation uses."""
    metric: str | None = None
    """Metric of the table and the first figure, "regret" for the first notion of regret that the world knows; chosen by
    the world if absent."""
    better: str | None = None
    """Which way `metric` is better, "lower" or "higher", where it is a figure that only its agent or world knows."""
    examples: int = 8
    """Held-out prompts whose responses before and after are kept for the report."""
    jobs: int | None = None
    """Cells that run at the same time; one per core if absent."""
    backend: str = "loky"
    """joblib backend, by name."""
    checkpoint_seconds: float = 10.0
    """Least time between two checkpoints of a cell, in seconds."""
    label_log: bool | None = None
    """Whether every duel with its label goes into the ledger and `labels.parquet`; if absent, in worlds with texts."""
    threads: int = 1
    """Threads of one cell; another number may change the last digits of a policy's results."""
    modules: tuple[str, ...] = ()
    """Python files or modules imported first, which register agents, oracles or worlds of your own."""

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise UserError(f"'split' is {self.split!r}, expected one of the world's: {choices(self.split, _SPLITS)}")
        labels = [agent.label for agent in self.agents]
        if self.baseline not in labels:
            self._refuse_unknown_agents()  # a mistyped agent is why, so it is named first
            raise UserError(
                f"'baseline' is {self.baseline!r}, expected the label of one of the agents; set 'baseline' to one of "
                f"them: {choices(self.baseline, labels)}"
            )
        if self.policy is not None and self.env.batch is not None:
            raise UserError("'env.batch' is for worlds without a policy; set 'env.num_envs' here")
        if self.policy is None and self.env.num_envs is not None:
            raise UserError(
                "'env.num_envs' is seeds x batch in a world without a policy; set 'seeds' and 'env.batch' instead"
            )
        first = self.seeds[0]
        if self.replicated and self.seeds != tuple(range(first, first + len(self.seeds))):
            raise UserError(
                "'seeds' is a list with gaps, but in a world without a policy all seeds are replicates of one "
                "environment: give a count, and 'first_seed' to draw other replicates"
            )

    def _refuse_unknown_agents(self) -> None:
        from duelenv import agents

        known = agents.names()
        for agent in self.agents:
            if agent.name not in known and not self.modules:  # which register agents, and are imported later
                raise UserError(f"Unknown agent {agent.name!r}: {choices(agent.name, known)}")

    @property
    def replicated(self) -> bool:
        """Whether all seeds of an agent are rows of one environment (worlds without a policy model)."""
        return self.policy is None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunConfig:
        """Checks a plain mapping and makes the config.

        Args:
            raw: Parsed YAML; relative paths in it start from the current directory.

        Raises:
            UserError: The first setting that is unknown, missing or of the wrong kind.
        """
        checks.refuse_unknown("", raw, [*(item.name for item in dataclasses.fields(cls)), *SHORTHANDS])
        for key in ("name", "env", "agents"):
            if raw.get(key) is None:
                raise UserError(f"The config has no {key!r}: add it at the top level")
        raw = anchor_paths(raw, Path.cwd())
        values: dict[str, Any] = {
            "name": _name(raw["name"]),
            "env": _env(raw["env"]),
            "agents": _in_variants(_agents(raw["agents"]), raw.get("variants")),
            "seeds": _seeds(raw.get("seeds", 1), raw.get("first_seed")),
            "modules": _modules(raw.get("modules")),
        }
        for key, minimum in (("evaluate_every", 1), ("examples", 0), ("threads", 1)):
            if key in raw:
                values[key] = checks.integer(f"'{key}'", raw[key], low=minimum)
        if "checkpoint_seconds" in raw:
            values["checkpoint_seconds"] = checks.number("'checkpoint_seconds'", raw["checkpoint_seconds"], low=0)
        # Of these, null stands for the default.
        given = {key: value for key, value in raw.items() if value is not None}
        for key, sources in (("policy", _POLICY_SOURCES), ("prompts", _PROMPT_SOURCES)):
            if key in given:
                values[key] = _source(key, given[key], sources)
        for key in ("oracle", "evaluation_oracle"):
            if key in given:
                values[key] = _named(key, given[key])
        for key in ("baseline", "split", "backend", "metric", "labels"):
            if key in given:
                values[key] = checks.text(f"'{key}'", given[key])
        if "better" in given:
            values["better"] = checks.one_of("better", given["better"], _BETTER)
        if "budget" in given:
            values["budget"] = _budget(given["budget"])
        if "data" in given:
            values["data"] = _data(given["data"])
        if "jobs" in given:
            values["jobs"] = checks.integer("'jobs'", given["jobs"], low=1)
        if "label_log" in given:
            values["label_log"] = checks.flag("'label_log'", given["label_log"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The resolved config as plain containers that `from_dict` reads back to an equal config."""
        plain: dict[str, Any] = {
            "name": self.name,
            "env": {
                "id": self.env.id,
                **({} if self.env.num_envs is None else {"num_envs": self.env.num_envs}),
                **({} if self.env.batch is None else {"batch": self.env.batch}),
                **self.env.settings,
            },
            "policy": None if self.policy is None else {self.policy.name: dict(self.policy.settings)},
            "prompts": None if self.prompts is None else {self.prompts.name: dict(self.prompts.settings)},
            "agents": {
                agent.label: {"name": agent.name, **({"env": dict(agent.env)} if agent.env else {}), **agent.settings}
                for agent in self.agents
            },
            "seeds": list(self.seeds),
            "modules": list(self.modules),
        }
        for key in ("oracle", "evaluation_oracle"):
            named = getattr(self, key)
            plain[key] = None if named is None else {"name": named.name, **named.settings}
        plain["budget"] = dataclasses.asdict(self.budget)
        for item in dataclasses.fields(self):
            plain.setdefault(item.name, getattr(self, item.name))
        return plain

    def identity(self) -> str:
        """Hash of everything that decides the results, so that a directory can be told to belong to this config."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True, default=str).encode()).hexdigest()

    def deciding(self) -> dict[str, Any]:
        """The part of `to_dict` that decides the results, as JSON would give it back."""
        plain = {key: value for key, value in self.to_dict().items() if key not in EXECUTION_KEYS}
        plain["budget"] = {"labels": self.budget.labels}  # a fuse decides only how far a run comes
        decided: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return decided

    def for_agent(self, label: str) -> RunConfig:
        """This run as one agent meets it, with the world settings of its own."""
        settings = {**self.env.settings, **self.agent(label).env}
        return dataclasses.replace(self, env=dataclasses.replace(self.env, settings=settings))

    def agent(self, label: str) -> AgentConfig:
        """The agent with this label."""
        return next(agent for agent in self.agents if agent.label == label)


def _name(raw: object) -> str:
    name = checks.text("'name'", raw)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"'name' is {raw!r}, expected letters, digits, '.', '_' and '-' only, and none of '.-' first")
    return name


def _env(raw: object) -> EnvConfig:
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
    """The Gymnasium id for a world's short name: `FeatureDuel` -> `duelenv/FeatureDuel-v0`.

    An id that has a namespace or a version already is kept.
    """
    if "/" in name:
        return name
    return f"duelenv/{name}" if re.search(r"-v\d+$", name) else f"duelenv/{name}-v0"


def _agents(raw: object) -> tuple[AgentConfig, ...]:
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        raw = dict.fromkeys(distinct_labels(raw), None)
    given = checks.mapping("'agents'", raw)
    if not given:
        raise UserError("'agents' is empty: name at least one agent")
    agents = []
    for label, value in given.items():
        settings = checks.mapping(f"'agents.{label}'", value)
        if not re.fullmatch(r"[\w.+-]+", label):
            raise UserError(f"The agent label {label!r} is not usable: use letters, digits, '.', '_', '+' and '-'")
        name = checks.text(f"'agents.{label}.name'", settings.pop("name", label))
        env = checks.mapping(f"'agents.{label}.env'", settings.pop("env", None))
        for key in env:
            if key in _SHARED_ENV:
                raise UserError(f"'agents.{label}.env.{key}' would make the agents unequal: set 'env.{key}' for all")
        agents.append(AgentConfig(label, name, settings, env))
    return tuple(agents)


def distinct_labels(listed: Sequence[object]) -> list[str]:
    """The names of `agents: [passive, real]`.

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


def _in_variants(agents: tuple[AgentConfig, ...], raw: object) -> tuple[AgentConfig, ...]:
    """Every agent in every variant of the world: `{d10: {dim: 10}}` makes `maxinp` into `maxinp-d10`."""
    variants = checks.mapping("'variants'", raw)
    if not variants:
        return agents
    expanded = []
    for variant, value in variants.items():
        if not re.fullmatch(r"[\w.+]+", variant):
            raise UserError(f"The variant {variant!r} is not usable: use letters, digits, '.', '_' and '+'")
        settings = checks.mapping(f"'variants.{variant}'", value)
        for key in settings:
            if key in _SHARED_ENV:
                raise UserError(f"'variants.{variant}.{key}' cannot differ within a run: set 'env.{key}' for all")
        for agent in agents:
            label = f"{agent.label}-{variant}"
            expanded.append(dataclasses.replace(agent, label=label, env={**agent.env, **settings}))
    return tuple(expanded)


def _named(key: str, raw: object) -> NamedConfig:
    given = {"name": raw} if isinstance(raw, str) else checks.mapping(f"'{key}'", raw)
    if "name" not in given:
        raise UserError(f"{key!r} has no 'name': add the name of a registered oracle ('duelenv list' shows them)")
    name = checks.text(f"'{key}.name'", given.pop("name"))
    return NamedConfig(name, given)


def _source(key: str, raw: object, known: Sequence[str]) -> NamedConfig:
    """`{toy: {seed: 0}}`, `{path: DIR, ...}` or the bare word: one source and its settings."""
    given: dict[str, Any] = {raw: {}} if isinstance(raw, str) else checks.mapping(f"'{key}'", raw)
    named = [name for name in known if name in given]
    if len(named) != 1:
        raise UserError(f"{key!r} is {raw!r}, expected exactly one of {', '.join(known)} in it")
    name = named[0]
    value = given.pop(name)
    if name == "path" and not isinstance(value, Mapping):
        return NamedConfig(name, {"path": checks.text(f"'{key}.path'", value), **given})
    checks.refuse_unknown(key, given, [name])
    settings = checks.mapping(f"'{key}.{name}'", value)
    if name == "path":  # the form that `to_dict` writes
        checks.text(f"'{key}.path'", settings.get("path"))
    return NamedConfig(name, settings)


def _seeds(raw: object, first: object) -> tuple[int, ...]:
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


def _budget(raw: object) -> BudgetConfig:
    if not isinstance(raw, int | Mapping):
        raise UserError(f"'budget' is {raw!r}, expected a whole number of labels, or a mapping with 'labels' and 'run'")
    given = {"labels": raw} if isinstance(raw, int) else checks.mapping("'budget'", raw)
    names = [item.name for item in dataclasses.fields(BudgetConfig)]
    checks.refuse_unknown("budget", given, names)
    return BudgetConfig(
        **{
            name: checks.integer(f"'budget.{name}'", given[name], low=1)
            for name in names
            if given.get(name) is not None
        }
    )


def _data(raw: object) -> dict[str, Any]:
    given = {"path": raw} if isinstance(raw, str) else checks.mapping("'data'", raw)
    if "path" not in given:
        raise UserError("'data' has no 'path': give the table as data=FILE, or data.path=FILE beside its settings")
    return {**given, "path": checks.text("'data.path'", given["path"])}


def _modules(raw: object) -> tuple[str, ...]:
    if raw is None:
        return ()
    listed = [raw] if isinstance(raw, str) else raw
    if not isinstance(listed, list | tuple):
        raise UserError(f"'modules' is {raw!r}, expected a list of Python files or modules")
    return tuple(checks.text("'modules'", name) for name in listed)
