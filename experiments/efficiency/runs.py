"""The ordinary runs that a study is made of: agents by what they need of the world, each group in a folder of its own.

Each is an ordinary run folder, so that a study that was killed goes on where it was, and finished cells are not played
again. What was measured comes back as arms.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import read_table_settings
from duelenv.experiments.efficiency.made_pools import made_pool
from duelenv.experiments.efficiency.resampling import Arm
from duelenv.experiments.efficiency.study import PASSIVE, Cell, Regime, Study, World
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import better
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.runner import run
from duelenv.ground.errors import UserError

__all__ = ["PRIVILEGED", "Entry", "Measured", "Setup", "data_of", "measure", "refusal_of", "run_configs"]

#: The agent that is told the utility, and the module that registers it: no other run knows it.
PRIVILEGED: Final = "perfect_belief"
_PRIVILEGED_MODULE: Final = "duelenv.experiments.efficiency.privileged"
#: What tables tell besides, by column of the results.
_FIGURES: Final = (
    "gradient_steps",
    "model_labels",
    "informative_duels",
    "first_informative_label",
    "third_informative_label",
    "seconds",
)


@dataclass(frozen=True)
class Entry:
    """An agent with all of its settings.

    Attributes:
        label: In folders and tables.
        agent: Registered agent name.
        settings: Tuned ones included.
        env: What it needs otherwise in the world.
    """

    label: str
    agent: str
    settings: Mapping[str, Any]
    env: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, tuned: Mapping[str, Any], label: str | None = None) -> Entry:
        """Make an entry of a cell with values of what is tuned."""
        return cls(label or cell.name, cell.agent, {**cell.settings, **tuned}, cell.env)

    @property
    def privileged(self) -> bool:
        """Whether it is told the utility."""
        return self.agent == PRIVILEGED


@dataclass(frozen=True)
class Setup:
    """Where and how long agents play: world, regime, labels and seeds."""

    world: World
    regime: Regime
    labels: int
    seeds: tuple[int, ...]

    def of_labels(self, labels: int) -> Setup:
        """Copy the setup with another number of labels."""
        return replace(self, labels=labels)


@dataclass(frozen=True)
class Measured:
    """What was measured of an entry.

    Attributes:
        entry: The agent.
        arm: Its curves.
        figures: Of the seeds at the end, by column.
        rows: Rows of its world: prompts sampled a round.
    """

    entry: Entry
    arm: Arm
    figures: Mapping[str, float]
    rows: int


def run_configs(study: Study, setup: Setup, entries: Iterable[Entry], name: str) -> dict[str, RunConfig]:
    """Make the runs in which entries play, by folder name: one for all that need the same world.

    Args:
        study: The study.
        setup: Where and how long.
        entries: The agents, labels distinct.
        name: Of the folder; those of agents that need another world have a digest of what they need behind it, so that
            a cell that is added later moves no other's.

    Raises:
        UserError: A setting that an ordinary run refuses.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        needs = json.dumps(dict(entry.env), sort_keys=True, default=str)
        folder = f"{name}-{zlib.crc32(needs.encode()):08x}" if entry.env else name
        groups.setdefault(folder, []).append(entry)
    return {folder: _config(study, setup, group, name) for folder, group in groups.items()}


def _config(study: Study, setup: Setup, entries: Sequence[Entry], name: str) -> RunConfig:
    """Make a run of entries that need the same world."""
    raw = study.settings_in(setup.world)
    per_round = setup.regime.per_round
    world = {**raw["env"], "num_envs": per_round, **entries[0].env, "horizon": setup.labels // per_round}
    if not study.trains_in(setup.world):  # where all seeds are rows of one environment, it counts those of a seed
        world["batch"] = world.pop("num_envs")
    data = data_of(study, setup.world)
    if data is not None:
        raw["data"] = data
    raw |= {
        "name": f"{study.name}-{name}",
        "env": world,
        "agents": {entry.label: {"name": entry.agent, **_settings(entry, raw)} for entry in entries},
        "baseline": entries[0].label,
        "seeds": list(setup.seeds),
        "evaluate_every": setup.regime.every // per_round,
        "save_models": "none",
        "label_log": False,
        "examples": 0,
    }
    if study.jobs is not None:
        raw["jobs"] = study.jobs
    if any(entry.privileged for entry in entries):
        modules = raw.get("modules") or []
        raw["modules"] = [*([modules] if isinstance(modules, str) else modules), _PRIVILEGED_MODULE]
    return RunConfig.from_dict(raw)


def data_of(study: Study, world: World) -> dict[str, Any] | None:
    """Find the table of a world's responses, as `data` of a run; None where a policy gives them."""
    if world.made is not None:
        return {"path": str(made_pool(world.made))}
    data = study.settings_in(world).get("data")
    return None if data is None else read_table_settings("data", data)


def refusal_of(study: Study, setup: Setup, entry: Entry | None) -> UserError | None:
    """Find why an agent cannot play in a world, or None if it can; nothing is played. No entry stands for `passive`."""
    asked = Entry(PASSIVE, PASSIVE, {}) if entry is None else entry
    (config,) = run_configs(study, setup, [asked], "refusal").values()
    try:
        prepare(config)
    except UserError as refused:
        return refused
    return None


def _settings(entry: Entry, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Make the settings of an entry; a privileged one is given the oracle, by the study and nobody else."""
    return {**entry.settings, **({"oracle": raw["oracle"]} if entry.privileged else {})}


def measure(
    study: Study, setup: Setup, entries: Sequence[Entry], folder: Path, *, progress: bool | None = None
) -> dict[str, Measured]:
    """Play what is not finished, and read what was measured, by label.

    Args:
        study: The study.
        setup: Where and how long.
        entries: The agents, labels distinct.
        folder: Of the run; where several are needed, the others stand beside it.
        progress: As for `duelenv.experiments.running.runner.run`.

    Raises:
        UserError: A setting that is refused, or a folder of another run.
    """
    by_label = {entry.label: entry for entry in entries}
    found: dict[str, Measured] = {}
    for name, config in run_configs(study, setup, entries, folder.name).items():
        run(config, folder.with_name(name), progress=progress)
        results = Results(folder.with_name(name))
        rows = config.env.batch if config.replicated else config.env.num_envs
        assert rows is not None
        for agent in config.agents:
            found[agent.label] = Measured(
                by_label[agent.label],
                _arm(study.metric_in(setup.world), setup.regime, results, agent.label),
                _figures(results, agent.label),
                rows,
            )
    return {label: found[label] for label in by_label}


def _arm(metric: str, regime: Regime, results: Results, label: str) -> Arm:
    """Read an agent's curves; what is better where it is lower changes its sign, so that every curve should rise.

    Labels that were not asked for, since all responses of a round were alike, count as spent.
    """
    steps, labels = results.curve(label, "queries")
    columns = [metric, "kl", results.regret]
    height, kl, regret = (
        np.full_like(labels, np.nan) if name is None or not results.has(name) else results.curve(label, name)[1]
        for name in columns
    )
    spent = np.maximum(labels.mean(axis=0), steps * float(regime.per_round))
    return Arm(spent, -height if better(metric) == "lower" else height, kl, regret)


def _figures(results: Results, label: str) -> dict[str, float]:
    """Collect what tables tell at the end: medians of when a duel came, never being infinity, and means of all else."""
    found = {}
    for name in _FIGURES:
        values = list(results.final(label, name).values()) if results.has(name) else []
        if name.endswith("_label"):
            missing = len(results.seeds(label)) - len(values)
            found[name] = float(np.median([*values, *[np.inf] * missing]))
        else:
            found[name] = float(np.mean(values)) if values else float("nan")
    return found
