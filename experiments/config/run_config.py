"""What decides a run: the settings of a `RunConfig`, and how they hang together.

Not for reading files (`loading`) nor for building anything: what the settings describe is made by
`duelenv.experiments.running.assembly`. How a single setting is read is in `settings`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from duelenv.core import SPLITS
from duelenv.experiments.config.paths import anchor_paths
from duelenv.experiments.config.places import misplaced
from duelenv.experiments.config.plain import in_plain
from duelenv.experiments.config.pools import in_pools, refuse_mixed_pools
from duelenv.experiments.config.prompt_sources import PROMPT_SOURCES
from duelenv.experiments.config.settings import (
    AgentConfig,
    BudgetConfig,
    EnvConfig,
    NamedConfig,
    in_variants,
    read_agents,
    read_budget,
    read_env,
    read_label_counts,
    read_modules,
    read_name,
    read_named,
    read_seeds,
    read_source,
    read_table_settings,
    read_trackers,
)
from duelenv.ground import checks
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.oracles.services.secrets import refuse_secrets
from duelenv.policies.registry import POLICIES

__all__ = ["EXECUTION_KEYS", "SHORTHANDS", "RunConfig"]

#: Keys that change how a run is carried out or shown but not what it computes; they are no part of its identity.
EXECUTION_KEYS = (
    "jobs",
    "backend",
    "fail_fast",
    "checkpoint_seconds",
    "baseline",
    "metric",
    "better",
    "save_models",
    "trackers",
    "description",
)

#: Settings of oracles that decide no answer, and so may change while a run is interrupted.
_EXECUTION_OF_ORACLES: Final = {"people": ("patience",)}

#: Keys that are written out when a config is read: `seeds: 8` with `first_seed`, and agents in several worlds.
SHORTHANDS = ("first_seed", "variants")

#: Which model a cell may leave.
_SAVED = ("last", "best", "none")

#: Which way a metric may be better.
_BETTER = ("lower", "higher")


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
    """The start policy of a policy world: `{toy: {...}}`, `{path: ..., ...}`, or one of your own by its name."""
    oracle: NamedConfig | None = None
    """Who labels."""
    evaluation_oracle: NamedConfig | None = None
    """Who judges held-out responses; the labelling oracle if absent."""
    prompts: NamedConfig | None = None
    """Prompts of a policy world: `{toy: {...}}`, `{path: ..., ...}`, `{list: {train: [...], test: [...]}}`, or those of
    a source of your own by its name."""
    data: Mapping[str, Any] | None = None
    """Table of recorded responses, for pool worlds: its `path`, and the settings it is read with. None where every
    agent has its own, as several pools are written out, see `duelenv.experiments.config.pools`."""
    labels: Mapping[str, Any] | None = None
    """Table of labels from elsewhere, from which every agent learns before the first round, no query of its own: its
    `path`, and the settings it is read with."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How many labels may be asked for."""
    seeds: tuple[int, ...] = (0,)
    """One run of each agent per seed; in worlds with replicates one replicate per seed, all from the first."""
    baseline: str = "passive"
    """Label of the agent that all others are compared to."""
    evaluate_every: int = 5
    """Rounds between two evaluations; step 0 and the last step are always evaluated."""
    report_at: tuple[int, ...] = ()
    """Labels of each seed at which agents are judged and compared as well, beside the end; in increasing order. Where a
    round asks for several, the first round with at least as many counts."""
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
    backend: NamedConfig = field(default_factory=lambda: NamedConfig("loky"))
    """What plays the cells, by name, with its settings, see `duelenv.experiments.running.backends`."""
    fail_fast: bool = False
    """Whether a cell that fails stops the others after their round; by default they are played to their end."""
    checkpoint_seconds: float = 10.0
    """Least time between two checkpoints of a cell, in seconds."""
    label_log: bool | None = None
    """Whether every duel with its label goes into the ledger and `labels.parquet`; if absent, in worlds with texts."""
    threads: int = 1
    """Threads of one cell; another number may change the last digits of a policy's results."""
    save_models: str = "last"
    """Which model each cell leaves of the policy that it trains: "last", as it stands at the end; "best", of those that
    were judged the one with the highest win rate on training prompts; "none"."""
    trackers: tuple[NamedConfig, ...] = ()
    """Where the figures of each cell go as well while it is played: `tensorboard`, `wandb`, `mlflow`, or yours."""
    modules: tuple[str, ...] = ()
    """Python files or modules imported first, which register agents, oracles or worlds of your own."""
    description: str | None = None
    """What is asked, in sentences for whoever reads the report; an empty line begins a new paragraph."""

    def __post_init__(self) -> None:
        checks.one_of("split", self.split, SPLITS)
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
        refuse_mixed_pools(self.agents, self.agent(self.baseline))
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
                raise checks.unknown_name("agent", agent.name, known, extensible=True)

    @property
    def replicated(self) -> bool:
        """Whether all seeds of an agent are rows of one environment (worlds without a policy model)."""
        return self.policy is None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunConfig:
        """Check a plain mapping and make the config.

        Args:
            raw: Parsed YAML, or the same from Python, with numbers and arrays of NumPy, ranges, tuples and paths;
                relative paths in it start from the current directory.

        Raises:
            UserError: The first setting that is unknown, missing or of the wrong kind.
        """
        top = [*(item.name for item in dataclasses.fields(cls)), *SHORTHANDS]
        raw = in_plain(raw)
        for key in raw:
            if key not in top:
                raise UserError(f"Unknown setting {key!r}: {misplaced(key, raw, top)}")
        refuse_secrets(raw)
        for key in ("name", "env", "agents"):
            if raw.get(key) is None:
                raise UserError(f"The config has no {key!r}: add it at the top level")
        raw = anchor_paths(raw, Path.cwd())
        data, variants = in_pools(raw.get("data"), raw.get("variants"))
        raw = {**raw, "data": data}
        bare = read_agents(raw["agents"])
        values: dict[str, Any] = {
            "name": read_name(raw["name"]),
            "env": read_env(raw["env"]),
            "agents": in_variants(bare, variants),
            "seeds": read_seeds(raw.get("seeds", 1), raw.get("first_seed")),
            "modules": read_modules(raw.get("modules")),
        }
        for key, minimum in (("evaluate_every", 1), ("examples", 0), ("threads", 1)):
            if key in raw:
                values[key] = checks.integer(f"'{key}'", raw[key], low=minimum)
        if raw.get("report_at") is not None:
            values["report_at"] = read_label_counts("report_at", raw["report_at"])
        if "checkpoint_seconds" in raw:
            values["checkpoint_seconds"] = checks.number("'checkpoint_seconds'", raw["checkpoint_seconds"], low=0)
        # Of these, null stands for the default.
        given = {key: value for key, value in raw.items() if value is not None}
        for key, sources in (("policy", POLICIES), ("prompts", PROMPT_SOURCES)):
            if key in given:
                values[key] = read_source(key, given[key], sources, modules=bool(values["modules"]))
        for key in ("oracle", "evaluation_oracle"):
            if key in given:
                values[key] = read_named(key, given[key])
        if "backend" in given:
            values["backend"] = read_named("backend", given["backend"], what="a backend, such as loky")
        for key in ("baseline", "split", "metric", "description"):
            if key in given:
                values[key] = checks.text(f"'{key}'", given[key])
        labels = [agent.label for agent in bare]
        if values.get("baseline", cls.baseline) in labels:  # where there are variants, in the first of them
            place = labels.index(values.get("baseline", cls.baseline))
            values["baseline"] = values["agents"][place].label
        if "better" in given:
            values["better"] = checks.one_of("better", given["better"], _BETTER)
        if "save_models" in given:
            values["save_models"] = checks.one_of("save_models", given["save_models"], _SAVED)
        if "budget" in given:
            values["budget"] = read_budget(given["budget"])
        for key in ("data", "labels"):
            if key in given:
                values[key] = read_table_settings(key, given[key])
        if "trackers" in given:
            values["trackers"] = read_trackers(given["trackers"])
        if "jobs" in given:
            values["jobs"] = checks.integer("'jobs'", given["jobs"], low=1)
        for key in ("label_log", "fail_fast"):
            if key in given:
                values[key] = checks.flag(f"'{key}'", given[key])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Write the resolved config as plain containers that `from_dict` reads back to an equal config."""
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
            "report_at": list(self.report_at),
        }
        for key in ("oracle", "evaluation_oracle"):
            named = getattr(self, key)
            plain[key] = None if named is None else {"name": named.name, **named.settings}
        plain["trackers"] = [{"name": one.name, **one.settings} for one in self.trackers]
        named = self.backend
        plain["backend"] = {"name": named.name, **named.settings} if named.settings else named.name
        plain["budget"] = dataclasses.asdict(self.budget)
        for item in dataclasses.fields(self):
            plain.setdefault(item.name, getattr(self, item.name))
        return plain

    def identity(self) -> str:
        """Hash of everything that decides the results, so that a directory can be told to belong to this config."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True, default=str).encode()).hexdigest()

    def deciding(self) -> dict[str, Any]:
        """Keep the part of `to_dict` that decides the results, as JSON would give it back."""
        plain = {key: value for key, value in self.to_dict().items() if key not in EXECUTION_KEYS}
        plain["budget"] = {"labels": self.budget.labels}  # a fuse decides only how far a run comes
        if not self.report_at:  # as in runs from before there was any
            del plain["report_at"]
        for key in ("oracle", "evaluation_oracle"):
            if plain.get(key) is not None:
                passing = _EXECUTION_OF_ORACLES.get(plain[key]["name"], ())
                plain[key] = {name: value for name, value in plain[key].items() if name not in passing}
        decided: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return decided

    def for_agent(self, label: str) -> RunConfig:
        """Change this run to what one agent meets, with the world settings of its own."""
        own = dict(self.agent(label).env)
        data = own.pop("data", None) or self.data
        env = dataclasses.replace(self.env, settings={**self.env.settings, **own})
        return dataclasses.replace(self, env=env, data=data)

    def agent(self, label: str) -> AgentConfig:
        """Find the agent with this label."""
        return next(agent for agent in self.agents if agent.label == label)
