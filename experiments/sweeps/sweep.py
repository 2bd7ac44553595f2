"""A sweep: trials as agents of ordinary runs, the best of them, and how it does on seeds that chose nothing.

A trial that changes settings of its agent alone plays beside the others in one run; those that change something else
play in a run for each such change. All are ordinary run folders: what was interrupted goes on, and nothing is asked
twice.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.experiments.config.loading import apply_override
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.sweeps.space import Space, read_space
from duelenv.experiments.tables.statistics import Interval, mean_interval
from duelenv.ground import checks
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["Confirmed", "Sweep", "Trial", "play", "read_sweep"]

_SEARCHES: Final = ("grid", "random")


@dataclass(frozen=True)
class Sweep:
    """What is searched.

    Attributes:
        base: Settings of the run that is varied.
        agent: Label of the agent whose settings are chosen.
        space: What is tried.
        search: "grid" or "random".
        labels: That the whole sweep may ask for, confirmation included.
        seed: Of a random search.
        confirm: Seeds that play the best setting and the agent as it was, none of which chose.
    """

    base: Mapping[str, Any]
    agent: str
    space: Space
    search: str
    labels: int
    seed: int = 0
    confirm: int = 0

    def __post_init__(self) -> None:
        self.trials()

    @property
    def config(self) -> RunConfig:
        """The run that is varied."""
        return RunConfig.from_dict(self.base)

    def trials(self) -> list[dict[str, Any]]:
        """List what is tried, as far as the labels reach.

        Raises:
            UserError: They do not reach for a grid, or for one trial.
        """
        config = self.config
        each = config.budget.labels
        if each is None:
            raise UserError("A sweep counts labels: set 'budget.labels', what each agent with each seed may ask for")
        if not any(agent.label == self.agent for agent in config.agents):
            raise UserError(
                f"No agent is called {self.agent!r}: {choices(self.agent, [a.label for a in config.agents])}"
            )
        left = self.labels - 2 * self.confirm * each
        count = max(left, 0) // (each * len(config.seeds))
        if self.search == "random":
            if count < 1:
                raise UserError(
                    f"'sweep.labels' is {self.labels}, and one trial with its confirmation takes "
                    f"{each * (len(config.seeds) + 2 * self.confirm)}: give at least as many"
                )
            return [self.space.draw(self.seed, number) for number in range(count)]
        points = self.space.grid()
        if len(points) > count:
            needed = each * (len(config.seeds) * len(points) + 2 * self.confirm)
            raise UserError(
                f"'sweep.labels' is {self.labels}, and the grid of {len(points)} trials takes {needed}: give as many, "
                "list fewer values, or set search=random"
            )
        return points


@dataclass(frozen=True)
class Trial:
    """What was measured of one setting.

    Attributes:
        number: Its place.
        settings: By dotted name.
        value: The metric at the end of its labels, over seeds.
    """

    number: int
    settings: Mapping[str, Any]
    value: Interval


@dataclass(frozen=True)
class Confirmed:
    """The best setting on seeds that chose nothing.

    Attributes:
        best: The metric with it, over seeds.
        before: The metric of the agent as it was.
        difference: Best minus before, paired by seed.
        seeds: First and last.
    """

    best: Interval
    before: Interval
    difference: Interval
    seeds: tuple[int, int]


def read_sweep(base: Mapping[str, Any], raw: object) -> Sweep:
    """Check the section `sweep` of a config.

    Args:
        base: The config without it, paths absolute.
        raw: The section.

    Raises:
        UserError: A setting that is unknown, missing or of the wrong kind.
    """
    given = checks.mapping("'sweep'", raw)
    checks.refuse_unknown("sweep", given, ["agent", "settings", "search", "labels", "seed", "confirm"])
    for key in ("agent", "settings", "labels"):
        if given.get(key) is None:
            raise UserError(f"'sweep' has no {key!r}: add it")
    return Sweep(
        base,
        checks.text("'sweep.agent'", given["agent"]),
        read_space(given["settings"]),
        checks.one_of("sweep.search", given.get("search", "random"), _SEARCHES),
        checks.integer("'sweep.labels'", given["labels"], low=1),
        checks.integer("'sweep.seed'", given.get("seed", 0), low=0),
        checks.integer("'sweep.confirm'", given.get("confirm", 0), low=0),
    )


def play(sweep: Sweep, root: Path, *, progress: bool | None = None) -> tuple[list[Trial], str, Trial, Confirmed | None]:
    """Play what is not finished.

    Returns:
        The trials in their order, the metric, the best of them, and how it is confirmed.

    Raises:
        UserError: A setting that a run refuses.
    """
    points = sweep.trials()
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, point in enumerate(points):
        apart = {key: value for key, value in point.items() if not _is_own(sweep, key)}
        name = f"trials-{zlib.crc32(json.dumps(apart, sort_keys=True).encode()):08x}" if apart else "trials"
        groups.setdefault(name, {})[number] = point
    values: dict[int, Interval] = {}
    metric, higher = "", False
    for name, group in groups.items():
        labelled = {f"{sweep.agent}-{number}": point for number, point in group.items()}
        results = _results(_with(sweep, labelled, sweep.config.seeds), root / "runs" / name, progress)
        metric, higher = _metric(results)
        for number in group:
            values[number] = mean_interval(list(results.final(f"{sweep.agent}-{number}", metric).values()))
    trials = [Trial(number, point, values[number]) for number, point in enumerate(points)]
    known = [trial for trial in trials if not np.isnan(trial.value.mean)]
    if not known:
        raise UserError(f"No trial measured {metric!r}: name another 'metric'")
    best = max(known, key=lambda trial: trial.value.mean if higher else -trial.value.mean)
    return trials, metric, best, _confirm(sweep, best, metric, root, progress) if sweep.confirm else None


def _confirm(sweep: Sweep, best: Trial, metric: str, root: Path, progress: bool | None) -> Confirmed:
    first = max(sweep.config.seeds) + 1
    seeds = tuple(range(first, first + sweep.confirm))
    # The setting is in the name: another best one, of more trials, is another run.
    digest = f"{zlib.crc32(json.dumps(dict(best.settings), sort_keys=True).encode()):08x}"
    measured: list[dict[int, float]] = []
    for name, point in ((f"confirm{first}-{digest}", best.settings), (f"confirm{first}-before", {})):
        results = _results(_with(sweep, {sweep.agent: point}, seeds), root / "runs" / name, progress)
        measured.append(results.final(sweep.agent, metric))
    paired = [measured[0][seed] - measured[1][seed] for seed in measured[0] if seed in measured[1]]
    chosen, before = (mean_interval(list(one.values())) for one in measured)
    return Confirmed(chosen, before, mean_interval(paired), (seeds[0], seeds[-1]))


def _is_own(sweep: Sweep, key: str) -> bool:
    """Tell whether a setting is the agent's own."""
    return key.startswith(f"agents.{sweep.agent}.")


def _with(sweep: Sweep, points: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> RunConfig:
    """Make the run of some settings of the agent by label, which agree in all settings that are not the agent's."""
    agents: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for label, point in points.items():
        whole = dict(sweep.base)
        for key, value in point.items():
            apply_override(whole, f"{key}={json.dumps(value)}")
        config = RunConfig.from_dict(whole)
        agents[label] = config.to_dict()["agents"][sweep.agent]
    whole |= {"agents": agents, "baseline": next(iter(agents)), "seeds": list(seeds), "save_models": "none"}
    whole.pop("first_seed", None)
    return RunConfig.from_dict(whole)


def _results(config: RunConfig, folder: Path, progress: bool | None) -> Results:
    run(config, folder, progress=progress)
    return Results(folder)


def _metric(results: Results) -> tuple[str, bool]:
    """Find the metric that decides, and whether more of it is better."""
    direction = results.better(results.primary)
    if direction is None:
        raise UserError(f"Nobody said which way {results.primary!r} is better: set better=lower or better=higher")
    return results.primary, direction == "higher"
