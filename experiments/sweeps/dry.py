"""What a sweep will play, ask and take, before anything is spent: `duelenv sweep --dry`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.forecast import duration, forecast
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.start_policy import threads_of
from duelenv.experiments.sweeps.plan import Sweep, confirming_seeds, groups, run_of

__all__ = ["Stage", "dry_text", "stages"]

#: Trials of each stage whose rounds are tried for some seconds; the others are taken to last as long as their mean.
_PROBES: Final = 3


class Stage(NamedTuple):
    """Trials that play the same seeds with as many labels.

    Attributes:
        name: For the table.
        trials: How many.
        seeds: Which.
        labels: Of each trial with each seed.
        cells: Of all their runs.
        seconds: That they will take, several at a time.
    """

    name: str
    trials: int
    seeds: Sequence[int]
    labels: int
    cells: int
    seconds: float

    @property
    def spent(self) -> int:
        """Labels of all its trials."""
        return self.trials * len(self.seeds) * self.labels


def stages(sweep: Sweep) -> list[Stage]:
    """Count what is played rung by rung, and the confirmation; rounds are tried for some seconds, and nothing is paid.

    Who comes to the later rungs is not known yet: the first trials stand for them.
    """
    points = dict(enumerate(sweep.trials()))
    config = sweep.config
    found = []
    for place, rung in enumerate(sweep.rungs(len(points))):
        chosen = {number: points[number] for number in list(points)[: rung.trials]}
        seeds, labels = config.seeds[rung.seeds], None if sweep.halving is None else rung.labels
        runs = [
            run_of(sweep, {f"{sweep.agent}-{number}": point for number, point in group.items()}, seeds, labels)
            for group in groups(sweep, chosen).values()
        ]
        name = "trials" if sweep.halving is None else f"rung {place + 1}"
        found.append(_stage(name, rung.trials, seeds, rung.labels, runs))
    if sweep.confirm:
        seeds = confirming_seeds(sweep)
        runs = [run_of(sweep, {sweep.agent: point}, seeds) for point in (points[0], {})]
        found.append(_stage("confirm", 2, seeds, config.budget.labels or 0, runs))
    return found


def _stage(name: str, trials: int, seeds: Sequence[int], labels: int, runs: Sequence[RunConfig]) -> Stage:
    agents = [(config, agent.label) for config in runs for agent in config.agents]
    probed = agents[:: max(1, -(-len(agents) // _PROBES))]
    each = float(np.mean([_cell_seconds(config, label) for config, label in probed]))
    seconds = 0.0
    for config in runs:
        count = len(cells(config))
        seconds += each * count / min(config.jobs or os.cpu_count() or 1, count)
    return Stage(name, trials, tuple(seeds), labels, sum(len(cells(config)) for config in runs), seconds)


def _cell_seconds(config: RunConfig, label: str) -> float:
    with threads_of(config):
        prepare(config)
        return forecast(config, label).seconds


def dry_text(sweep: Sweep) -> str:
    """Say what a sweep will play, ask and take.

    Raises:
        UserError: What a run of it would be refused for.
    """
    played = stages(sweep)
    how = "" if sweep.halving is None else f", halving over {sweep.halving.over} by {sweep.halving.factor}"
    count = len(sweep.trials())
    rows: list[list[Any]] = [["", "trials", "seeds", "labels a seed", "cells", "labels", "time"]]
    for one in played:
        seeds = f"{one.seeds[0]} to {one.seeds[-1]}" if len(one.seeds) > 1 else str(one.seeds[0])
        rows.append([one.name, one.trials, seeds, one.labels, one.cells, f"{one.spent:,}", duration(one.seconds)])
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{sweep.config.name}: {count} trials of {sweep.agent!r} by {sweep.search} search{how}; nothing was asked, and "
        "nothing is written",
        "",
        *("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows),
        "",
        f"labels   {sum(one.spent for one in played):,} of the {sweep.labels:,} that it may ask for",
        f"time     about {duration(sum(one.seconds for one in played))}, without that of oracles that may be paid",
    ]
    return "\n".join(lines)
