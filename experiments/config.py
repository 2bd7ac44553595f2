"""Run settings: a YAML file and `key=value` overrides become one validated, frozen `RunConfig`.

Not for building anything: what the settings describe is made by `duelenv.experiments.runner`. Settings that belong to
a world, an oracle, a policy or an agent are passed on as they stand and checked by whoever receives them.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from duelenv.oracles.errors import UserError

__all__ = [
    "AgentConfig",
    "EnvConfig",
    "NamedConfig",
    "RunConfig",
    "load",
    "suites",
]

#: Keys that change how a run is carried out or shown but not what it computes; they are no part of its identity.
EXECUTION_KEYS = ("jobs", "backend", "checkpoint_seconds", "label_log", "baseline", "metric")

#: Keys that are written out when a config is read: `seeds: 8` with `first_seed`, and agents in several worlds.
_SHORTHANDS = ("first_seed", "variants")

#: Policy and prompt sources that a suite may name.
POLICY_SOURCES = ("toy", "path")
PROMPT_SOURCES = ("toy", "path", "list")


#: Contexts that `evaluate` knows.
SPLITS = ("test", "train")

#: World settings that all agents of a comparison must share.
_SHARED_ENV = ("id", "num_envs", "batch", "horizon")

#: Settings of worlds that may name a file with an array.
_ARRAY_SETTINGS = ("matrix", "features")
ARRAY_FILES = (".npy", ".csv")


def choices(value: object, known: Iterable[str]) -> str:
    """The tail of an error sentence: the nearest known name, or all of them.

    Args:
        value: What the user wrote.
        known: The names that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    listing = f"choose from {', '.join(names)}" if names else "none can be set here"
    return f"did you mean {near[0]!r}? ({listing})" if near else listing


def _refuse_unknown(section: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise for the first key of `given` that is not in `known`."""
    known = tuple(known)
    for key in given:
        if key not in known:
            where = f" in {section!r}" if section else ""
            raise UserError(f"Unknown setting {key!r}{where}: {choices(key, known)}")


def _mapping(key: str, value: object) -> dict[str, Any]:
    """`value` as a mapping with string keys; null is the empty mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key!r} is {value!r}, expected a mapping of settings")
    for name in value:
        if not isinstance(name, str):
            raise UserError(f"{key!r} has the key {name!r}, expected a word; quote it if it is meant as text")
    return dict(value)


def whole_number(key: str, value: object, minimum: int) -> int:
    """`value` as a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{key!r} is {value!r}, expected a whole number of at least {minimum}")
    return value


def _number(key: str, value: object, minimum: float) -> float:
    """`value` as a finite number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{key!r} is {value!r}, expected a number of at least {minimum}")
    if not math.isfinite(value) or value < minimum:
        raise UserError(f"{key!r} is {value!r}, expected a number of at least {minimum}")
    return float(value)


def _text(key: str, value: object) -> str:
    """`value` as text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key!r} is {value!r}, expected a word or a path")
    return value


def _flag(key: str, value: object) -> bool:
    """`value` as true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{key!r} is {value!r}, expected true or false")
    return value


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
    """Everything that decides a run. Made by `load` or `RunConfig.from_dict`, which check every value."""

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
    seeds: tuple[int, ...] = (0,)
    """One run of each agent per seed; in worlds with replicates one replicate per seed, all from the first."""
    baseline: str = "passive"
    """Label of the agent that all others are compared to."""
    evaluate_every: int = 5
    """Rounds between two evaluations; step 0 and the last step are always evaluated."""
    split: str = "test"
    """Contexts that evaluation uses."""
    metric: str | None = None
    """Metric of the table and the first figure; chosen by the world if absent."""
    examples: int = 8
    """Held-out prompts whose responses before and after are kept for the report."""
    jobs: int | None = None
    """Cells that run at the same time; one per core if absent."""
    backend: str = "loky"
    """joblib backend, by name."""
    checkpoint_seconds: float = 10.0
    """Least time between two checkpoints of a cell, in seconds."""
    label_log: bool | None = None
    """Whether every label is kept in `labels.parquet`; if absent, in worlds with texts."""
    threads: int = 1
    """Threads of one cell; another number may change the last digits of a policy's results."""
    modules: tuple[str, ...] = ()
    """Python files or modules imported first, which register agents, oracles or worlds of your own."""

    @property
    def replicated(self) -> bool:
        """Whether all seeds of an agent are rows of one environment (worlds without a policy model)."""
        return self.policy is None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, base: Path | None = None) -> RunConfig:
        """Checks a plain mapping and makes the config.

        Args:
            raw: Parsed YAML.
            base: Directory that relative paths start from; the current one if absent.

        Raises:
            UserError: The first setting that is unknown, missing or of the wrong kind.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        _refuse_unknown("", raw, [*names, *_SHORTHANDS])
        for key in ("name", "env", "agents"):
            if raw.get(key) is None:
                raise UserError(f"The config has no {key!r}: add it at the top level")
        base = Path.cwd() if base is None else base
        values: dict[str, Any] = {"name": _text("name", raw["name"])}
        if not re.fullmatch(r"[\w.-]+", values["name"]):
            raise UserError(f"'name' is {raw['name']!r}, expected letters, digits, '.', '_' and '-' only")
        values["env"] = _env(raw["env"], base)
        values["agents"] = _in_variants(_agents(raw["agents"]), raw.get("variants"))
        if raw.get("policy") is not None:
            values["policy"] = _source("policy", raw["policy"], POLICY_SOURCES, base)
        if raw.get("prompts") is not None:
            values["prompts"] = _source("prompts", raw["prompts"], PROMPT_SOURCES, base)
        for key in ("oracle", "evaluation_oracle"):
            if raw.get(key) is not None:
                values[key] = _named(key, raw[key])
        if raw.get("data") is not None:
            values["data"] = _data(raw["data"], base)
        values["seeds"] = _seeds(raw.get("seeds", 1), raw.get("first_seed"))
        for key, minimum in (("evaluate_every", 1), ("examples", 0), ("threads", 1)):
            if key in raw:
                values[key] = whole_number(key, raw[key], minimum)
        values["modules"] = _modules(raw.get("modules"), base)
        if raw.get("jobs") is not None:
            values["jobs"] = whole_number("jobs", raw["jobs"], 1)
        if "checkpoint_seconds" in raw:
            values["checkpoint_seconds"] = _number("checkpoint_seconds", raw["checkpoint_seconds"], 0)
        if raw.get("label_log") is not None:
            values["label_log"] = _flag("label_log", raw["label_log"])
        for key in ("baseline", "split", "backend", "metric"):
            if raw.get(key) is not None:
                values[key] = _text(key, raw[key])
        config = cls(**values)
        if config.split not in SPLITS:
            raise UserError(
                f"'split' is {config.split!r}, expected one of the world's: {choices(config.split, SPLITS)}"
            )
        labels = [agent.label for agent in config.agents]
        if config.baseline not in labels:
            raise UserError(
                f"'baseline' is {config.baseline!r}, expected the label of one of the agents: "
                f"{choices(config.baseline, labels)}"
            )
        if config.policy is not None and config.env.batch is not None:
            raise UserError("'env.batch' is for worlds without a policy; set 'env.num_envs' here")
        if config.policy is None and config.env.num_envs is not None:
            raise UserError(
                "'env.num_envs' is seeds x batch in a world without a policy; set 'seeds' and 'env.batch' instead"
            )
        if config.replicated:
            first = config.seeds[0]
            if config.seeds != tuple(range(first, first + len(config.seeds))):
                raise UserError(
                    "'seeds' is a list with gaps, but in a world without a policy all seeds are replicates of one "
                    "environment: give a count, and 'first_seed' to draw other replicates"
                )
        return config

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
        for item in dataclasses.fields(self):
            plain.setdefault(item.name, getattr(self, item.name))
        return plain

    def identity(self) -> str:
        """Hash of everything that decides the results, so that a directory can be told to belong to this config."""
        plain = {key: value for key, value in self.to_dict().items() if key not in EXECUTION_KEYS}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()

    def for_agent(self, label: str) -> RunConfig:
        """This run as one agent meets it, with the world settings of its own."""
        settings = {**self.env.settings, **self.agent(label).env}
        return dataclasses.replace(self, env=dataclasses.replace(self.env, settings=settings))

    def agent(self, label: str) -> AgentConfig:
        """The agent with this label."""
        return next(agent for agent in self.agents if agent.label == label)


def _env(raw: object, base: Path) -> EnvConfig:
    if isinstance(raw, str):
        raw = {"id": raw}
    given = _mapping("env", raw)
    if "id" not in given:
        raise UserError("'env' has no 'id': add one such as 'duelenv/FeatureDuel-v0'")
    name = _text("env.id", given.pop("id"))
    num_envs, batch = given.pop("num_envs", None), given.pop("batch", None)
    return EnvConfig(
        id=full_id(name),
        num_envs=None if num_envs is None else whole_number("env.num_envs", num_envs, 1),
        batch=None if batch is None else whole_number("env.batch", batch, 1),
        settings=_anchored_env(given, base),
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
        for label in raw:
            _text("agents", label)
        raw = dict.fromkeys(raw, None)
    given = _mapping("agents", raw)
    if not given:
        raise UserError("'agents' is empty: name at least one agent")
    agents = []
    for label, value in given.items():
        settings = _mapping(f"agents.{label}", value)
        if not re.fullmatch(r"[\w.+-]+", label):
            raise UserError(f"The agent label {label!r} is not usable: use letters, digits, '.', '_', '+' and '-'")
        name = _text(f"agents.{label}.name", settings.pop("name", label))
        env = _mapping(f"agents.{label}.env", settings.pop("env", None))
        for key in env:
            if key in _SHARED_ENV:
                raise UserError(f"'agents.{label}.env.{key}' would make the agents unequal: set 'env.{key}' for all")
        agents.append(AgentConfig(label, name, settings, env))
    return tuple(agents)


def _in_variants(agents: tuple[AgentConfig, ...], raw: object) -> tuple[AgentConfig, ...]:
    """Every agent in every variant of the world: `{d10: {dim: 10}}` makes `maxinp` into `maxinp-d10`."""
    variants = _mapping("variants", raw)
    if not variants:
        return agents
    expanded = []
    for variant, value in variants.items():
        if not re.fullmatch(r"[\w.+]+", variant):
            raise UserError(f"The variant {variant!r} is not usable: use letters, digits, '.', '_' and '+'")
        settings = _mapping(f"variants.{variant}", value)
        for key in settings:
            if key in _SHARED_ENV:
                raise UserError(f"'variants.{variant}.{key}' cannot differ within a run: set 'env.{key}' for all")
        for agent in agents:
            label = f"{agent.label}-{variant}"
            expanded.append(dataclasses.replace(agent, label=label, env={**agent.env, **settings}))
    return tuple(expanded)


def _named(key: str, raw: object) -> NamedConfig:
    given = {"name": raw} if isinstance(raw, str) else _mapping(key, raw)
    if "name" not in given:
        raise UserError(f"{key!r} has no 'name': add the name of a registered oracle ('duelenv list' shows them)")
    name = _text(f"{key}.name", given.pop("name"))
    return NamedConfig(name, given)


def _source(key: str, raw: object, known: Sequence[str], base: Path) -> NamedConfig:
    """`{toy: {seed: 0}}`, `{path: DIR, ...}` or the bare word: one source and its settings."""
    given: dict[str, Any] = {raw: {}} if isinstance(raw, str) else _mapping(key, raw)
    named = [name for name in known if name in given]
    if len(named) != 1:
        raise UserError(f"{key!r} is {raw!r}, expected exactly one of {', '.join(known)} in it")
    name = named[0]
    value = given.pop(name)
    if name != "path":
        if given:
            _refuse_unknown(key, given, [name])
        return NamedConfig(name, _mapping(f"{key}.{name}", value))
    if isinstance(value, Mapping):  # the form that `to_dict` writes
        given = _mapping(f"{key}.path", value)
        value = given.pop("path", None)
    location = base / Path(_text(f"{key}.path", value)).expanduser()
    if not location.exists() and key == "policy":
        # A name on the Hugging Face hub; whoever loads it says so if it is not.
        return NamedConfig(name, {"path": value, **given})
    return NamedConfig(name, {"path": str(location.resolve()), **given})


def _seeds(raw: object, first: object) -> tuple[int, ...]:
    if isinstance(raw, list):
        if first is not None:
            raise UserError("'first_seed' goes with a count: leave it out where 'seeds' is a list")
        if not raw:
            raise UserError("'seeds' is an empty list, expected at least one seed")
        values = tuple(whole_number("seeds", value, 0) for value in raw)
        if len(set(values)) != len(values):
            raise UserError(f"'seeds' is {raw!r}, expected every seed once")
        return values
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        raise UserError(f"'seeds' is {raw!r}, expected a count of at least 1 or a list of whole numbers")
    start = 0 if first is None else whole_number("first_seed", first, 0)
    return tuple(range(start, start + raw))


def _data(raw: object, base: Path) -> dict[str, Any]:
    given = {"path": raw} if isinstance(raw, str) else _mapping("data", raw)
    if "path" not in given:
        raise UserError("'data' has no 'path': give the table as data=FILE, or data.path=FILE beside its settings")
    return {**given, "path": _absolute(base, _text("data.path", given["path"]))}


def _absolute(base: Path, path: str) -> str:
    return str((base / Path(path).expanduser()).resolve())


def _anchored_env(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """A world's settings with the paths of arrays made absolute."""
    return {
        key: _absolute(base, value)
        if key in _ARRAY_SETTINGS and isinstance(value, str) and value.endswith(ARRAY_FILES)
        else value
        for key, value in settings.items()
    }


def _modules(raw: object, base: Path) -> tuple[str, ...]:
    """Dotted names as they are, paths of Python files made absolute."""
    if raw is None:
        return ()
    listed = [raw] if isinstance(raw, str) else raw
    if not isinstance(listed, list | tuple):
        raise UserError(f"'modules' is {raw!r}, expected a list of Python files or modules")
    names = [_text("modules", name) for name in listed]
    return tuple(_absolute(base, name) if name.endswith(".py") else name for name in names)


class _Loader(yaml.SafeLoader):
    """Plain YAML, where 1e-3 is a number: YAML 1.1 takes it for a word, and everybody writes it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for."""
    return yaml.load(text, _Loader)


def suites() -> dict[str, Path]:
    """The configs that come with the package: name -> file."""
    folder = Path(str(resources.files("duelenv.experiments"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(config: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config file, or a suite by its bare name, and applies overrides.

    Args:
        config: Path of a YAML file, or the name of a shipped suite.
        overrides: `key=value` each; dotted keys reach inside, values are YAML. Paths in overrides start from the
            current directory, paths in the file from the file's.

    Raises:
        UserError: No such file, not YAML, or a setting that is unknown or of the wrong kind.
    """
    path = Path(config).expanduser()
    if not path.is_file():
        shipped = suites()
        if str(config) not in shipped:
            raise UserError(f"No config file {str(config)!r} and no suite of that name: {choices(config, shipped)}")
        path = shipped[str(config)]
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f" (line {where.line + 1})"
        raise UserError(f"{str(path)!r} is not valid YAML{line}: correct it and try again") from error
    if not isinstance(raw, Mapping):
        raise UserError(f"{str(path)!r} holds {type(raw).__name__}, expected a mapping of settings")
    plain = _anchor_paths(dict(raw), path.resolve().parent)
    for override in overrides:
        apply_override(plain, override)
    return RunConfig.from_dict(plain)


def _anchor_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes the paths written in a config file absolute, so that overrides alone start from the current directory."""
    data = raw.get("data")
    if isinstance(data, str):
        raw["data"] = _absolute(folder, data)
    elif isinstance(data, Mapping) and isinstance(data.get("path"), str):
        raw["data"] = {**data, "path": _absolute(folder, data["path"])}
    if isinstance(raw.get("env"), Mapping):
        raw["env"] = _anchored_env(raw["env"], folder)
    if raw.get("modules") is not None:
        raw["modules"] = list(_modules(raw["modules"], folder))
    for key in ("policy", "prompts"):
        section = raw.get(key)
        if isinstance(section, Mapping) and isinstance(section.get("path"), str):
            location = folder / Path(section["path"]).expanduser()
            if location.exists() or key == "prompts":
                raw[key] = {**section, "path": str(location)}
    return raw


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Writes one `key=value` into a parsed config, in place.

    Top-level keys and agent labels must exist; inside a section any key may be set, since the world, oracle or agent
    that receives it refuses what it does not know.

    Raises:
        UserError: No `=`, an unknown key, or a value that is not YAML.
    """
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise UserError(f"The override {override!r} is not key=value: write for example 'seeds=4'")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"The value in {override!r} is not valid YAML: quote it if it is meant as text") from error
    head, *rest = key.split(".")
    top = [item.name for item in dataclasses.fields(RunConfig)] + [*_SHORTHANDS]
    if head not in top:
        raise UserError(f"Unknown setting {key!r}: {choices(head, top)}")
    sections = ("env", "policy", "oracle", "evaluation_oracle", "prompts", "data", "agents", "variants")
    if rest and head not in sections:
        raise UserError(f"Unknown setting {key!r}: {head!r} is a single value")
    if "" in rest:
        raise UserError(f"The override {override!r} has an empty part in its key: write it like 'env.horizon=20'")
    if not rest:
        raw[head] = value
        return
    section = raw.get(head)
    if isinstance(section, str):  # the short spellings 'oracle: length', 'env: FeatureDuel', 'policy: toy'
        spellings: dict[str, dict[str, Any]] = {
            "env": {"id": section},
            "data": {"path": section},
            "policy": {section: {}},
            "prompts": {section: {}},
        }
        section = spellings.get(head, {"name": section})
    elif isinstance(section, list) and head == "agents":
        section = dict.fromkeys(section, None)
    elif section is None:
        section = {}
    if not isinstance(section, Mapping):
        raise UserError(f"Cannot set {key!r}: {head!r} is {section!r}, expected a mapping of settings")
    node = dict(section)
    raw[head] = node
    if head == "agents" and len(rest) > 1 and rest[0] not in node:
        raise UserError(f"Unknown setting {key!r}: no agent has the label {rest[0]!r}, {choices(rest[0], node)}")
    for depth, part in enumerate(rest[:-1]):
        child = node.get(part)
        if child is None:
            child = {}
        if not isinstance(child, Mapping):
            parent = ".".join([head, *rest[: depth + 1]])
            raise UserError(f"Unknown setting {key!r}: {parent!r} is {child!r} and has nothing inside")
        node[part] = dict(child)
        node = node[part]
    node[rest[-1]] = value
