"""Plays a sweep: trials as agents of ordinary runs, the best of them, and how it does on seeds that chose nothing.

A trial that changes settings of its agent alone plays beside the others in one run; those that change something else
play in a run for each such change. All are ordinary run folders: what was interrupted goes on, and nothing is asked
twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.sweeps.halving import Rung
from duelenv.experiments.sweeps.plan import Sweep, confirming_seeds, digest, groups, run_of
from duelenv.experiments.tables.statistics import Interval, mean_interval
from duelenv.ground.errors import UserError

__all__ = ["Confirmed", "Trial", "play"]


@dataclass(frozen=True)
class Trial:
    """What was measured of one setting.

    Attributes:
        number: Its place.
        settings: By dotted name.
        value: The metric at the end of its labels, over seeds.
        rungs: How many rungs it played.
    """

    number: int
    settings: Mapping[str, Any]
    value: Interval
    rungs: int = 1


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


def play(sweep: Sweep, root: Path, *, progress: bool | None = None) -> tuple[list[Trial], str, Trial, Confirmed | None]:
    """Play what is not finished.

    Returns:
        The trials in their order, the metric, the best of those that came to the last rung, and how it is confirmed.

    Raises:
        UserError: A setting that a run refuses.
    """
    points = sweep.trials()
    trials: dict[int, Trial] = {}
    measured: dict[int, dict[int, float]] = {number: {} for number in range(len(points))}
    left = list(measured)
    metric, higher = "", False
    for place, rung in enumerate(sweep.rungs(len(points))):
        left = sorted(left[: rung.trials])
        found, metric, higher = _measured(sweep, {number: points[number] for number in left}, rung, root, progress)
        for number, values in found.items():
            # Other seeds are added to those of rungs before; more labels with the same seeds replace them.
            measured[number] |= values
            interval = mean_interval(list(measured[number].values()))
            trials[number] = Trial(number, points[number], interval, rungs=place + 1)
        left.sort(key=lambda number: _rank(trials[number], higher))
    best = trials[left[0]]
    if np.isnan(best.value.mean):
        raise UserError(f"No trial measured {metric!r}: name another 'metric'")
    confirmed = _confirm(sweep, best, metric, root, progress) if sweep.confirm else None
    return [trials[number] for number in sorted(trials)], metric, best, confirmed


def _rank(trial: Trial, higher: bool) -> tuple[bool, float, int]:
    """Give the key that sorts trials: best first, those that measured nothing last, equal ones as drawn."""
    mean = trial.value.mean
    return bool(np.isnan(mean)), -mean if higher else mean, trial.number


def _measured(
    sweep: Sweep, points: Mapping[int, Mapping[str, Any]], rung: Rung, root: Path, progress: bool | None
) -> tuple[dict[int, dict[int, float]], str, bool]:
    """Find the metric of some trials in a rung by seed, its name, and whether more of it is better."""
    seeds = sweep.config.seeds[rung.seeds]
    # Other trials that come as far, as where there are more of them, are another run.
    of = "" if sweep.halving is None else f"-seeds{seeds[0]}to{seeds[-1]}-labels{rung.labels}-{digest(sorted(points))}"
    values: dict[int, dict[int, float]] = {}
    metric, higher = "", False
    for name, group in groups(sweep, points).items():
        labelled = {f"{sweep.agent}-{number}": point for number, point in group.items()}
        config = run_of(sweep, labelled, seeds, None if sweep.halving is None else rung.labels)
        results = _results(config, root / "runs" / f"{name}{of}", progress)
        metric, higher = _metric(results)
        for number in group:
            values[number] = results.final(f"{sweep.agent}-{number}", metric)
    return values, metric, higher


def _confirm(sweep: Sweep, best: Trial, metric: str, root: Path, progress: bool | None) -> Confirmed:
    seeds = confirming_seeds(sweep)
    measured: list[dict[int, float]] = []
    # The setting is in the name: another best one, of more trials, is another run.
    for name, point in ((digest(dict(best.settings)), best.settings), ("before", {})):
        config = run_of(sweep, {sweep.agent: point}, seeds)
        results = _results(config, root / "runs" / f"confirm{seeds[0]}-{name}", progress)
        measured.append(results.final(sweep.agent, metric))
    paired = [measured[0][seed] - measured[1][seed] for seed in measured[0] if seed in measured[1]]
    chosen, before = (mean_interval(list(one.values())) for one in measured)
    return Confirmed(chosen, before, mean_interval(paired), (seeds[0], seeds[-1]))


def _results(config: RunConfig, folder: Path, progress: bool | None) -> Results:
    run(config, folder, progress=progress)
    return Results(folder)


def _metric(results: Results) -> tuple[str, bool]:
    """Find the metric that decides, and whether more of it is better."""
    direction = results.better(results.primary)
    if direction is None:
        raise UserError(f"Nobody said which way {results.primary!r} is better: set better=lower or better=higher")
    return results.primary, direction == "higher"
