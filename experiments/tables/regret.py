"""What a run shows of cumulative regret: a table with growth rates, and the bounds that apply. Draws nothing.

For worlds without a policy, where all replicates of an agent run at once and the regret is exact. Where the agents of
a run meet several variants of a world, only those of one variant are compared.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv import bounds
from duelenv.experiments.config.paths import ARRAY_FILES
from duelenv.experiments.config.worlds import make_matrix, world_class
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction, label_of
from duelenv.experiments.tables.borderline import borderline_caption, judged
from duelenv.experiments.tables.comparison import comparison_table, seen_text
from duelenv.experiments.tables.gains import gains_table
from duelenv.experiments.tables.groups import Group, group_agents
from duelenv.experiments.tables.statistics import (
    Interval,
    Slope,
    family_text,
    log_log_slope,
    mean_interval,
    paired,
    paired_difference,
)
from duelenv.experiments.tables.text_table import (
    TextTable,
    difference_text,
    fixed,
    turning_seeds,
    value_text,
    verdict_of,
)
from duelenv.oracles.matrices import condorcet_winner

__all__ = ["Bound", "RegretTable", "bounds_of", "duels", "regret_table", "tables"]

Array = NDArray[np.float64]

#: Settings with which labels are late or wrong or the truth moves: the bounds below are of worlds without.
_DISTURBANCES = ("stages", "drift", "changes")
#: Worlds of which a bound is known.
_MATRIX, _FEATURE = "duelenv/MatrixDuel-v0", "duelenv/FeatureDuel-v0"


def duels(results: Results, agent: str) -> Array:
    """Count the duels of a replicate at each step that was recorded, [T]."""
    steps, _ = results.curve(agent, "step")
    return np.asarray(steps * (results.config.env.batch or 1), dtype=np.float64)


# Table ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegretLine:
    """One agent's line of the table of regret."""

    agent: str
    regret: Interval
    median: float
    tail: float
    """95th percentile over replicates."""
    difference: Interval | None
    """Paired difference to the baseline; None for the baseline itself."""
    slope: Slope
    simple_regret: Interval
    microseconds: float
    """Time of a duel, world and agent together."""
    leads: bool
    """The least mean of its group, or not shown to be above it."""

    @property
    def verdict(self) -> str:
        """What the difference shows, in words."""
        return verdict_of(self.difference)


@dataclass(frozen=True)
class RegretTable(TextTable):
    """Regret after the last round, by group and then from the least to the most."""

    primary: str
    baseline: str
    lines: tuple[RegretLine, ...]
    rounds: int
    better: Direction | None = "lower"
    name: str = "regret"
    title: str = ""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """Columns that hold words: the agent and the difference."""
        return (0, 2)

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        counts = sorted({line.regret.seeds for line in self.lines})
        family = [line.difference for line in self.lines if line.difference is not None]
        seeds = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        return (
            f"{label_of(self.primary)} after {self.rounds:,} rounds, {seeds} replicates; ± is half a 95 % t-interval; "
            f"differences to {self.baseline} are paired by replicate, with their interval{family_text(len(family))}"
            f"{seen_text(family)}{borderline_caption(family)}; slope: growth of the mean "
            "in log-log coordinates over the last half of the rounds, with a 95 % bootstrap interval over replicates; "
            "the time of a duel is that of world and agent on one core, divided by the duels of all replicates; "
            "marked: the least mean, and those whose paired difference to it is not shown to be above 0."
        )

    def header(self) -> list[str]:
        """Name the columns."""
        return [
            "agent",
            label_of(self.primary).removesuffix(", cumulative"),
            f"difference to {self.baseline}",
            "median",
            "95th percentile",
            "slope",
            "simple regret",
            "time of a duel",
        ]

    def cells(self) -> list[list[str]]:
        """Write the lines as text."""
        return [
            [
                line.agent,
                value_text(line.regret),
                difference_text(line.difference),
                _figure_text(line.median),
                _figure_text(line.tail),
                slope_text(line.slope),
                value_text(line.simple_regret),
                f"{line.microseconds:.3g} µs",
            ]
            for line in self.lines
        ]

    def csv(self) -> str:
        """Write the numbers behind the table, with every interval in columns of its own."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        parts = ("mean", "low", "high", "seeds")
        writer.writerow(
            [
                "agent",
                *(f"{name}_{part}" for name in (self.primary, "difference", "simple_regret") for part in parts),
                *("median", "percentile_95", "slope", "slope_low", "slope_high", "microseconds_per_duel", "leads"),
                "difference_turns_without",
            ]
        )
        for line in self.lines:
            values: list[Any] = [line.agent]
            for interval in (line.regret, line.difference, line.simple_regret):
                values += [""] * 4 if interval is None else [getattr(interval, part) for part in parts]
            slope = (line.slope.slope, line.slope.low, line.slope.high)
            values += [line.median, line.tail, *slope, line.microseconds, int(line.leads)]
            writer.writerow([*values, turning_seeds(line.difference)])
        return stream.getvalue()


def regret_table(results: Results) -> RegretTable | None:
    """Make the table of cumulative regret, or None where the truth or replicates are missing."""
    metric = results.regret
    if metric is None or not results.config.replicated:
        return None
    lines: list[RegretLine] = []
    compared: list[dict[int, float] | None] = []
    rounds = 0
    for group in group_agents(results):
        final = {agent: results.final(agent, metric) for agent in group.agents}
        order = sorted((agent for agent in group.agents if final[agent]), key=lambda agent: _mean(final[agent]))
        for agent in order:
            steps, curves = results.curve(agent, metric)
            rounds = max(rounds, int(steps[-1]))
            values = np.array(list(final[agent].values()))
            total = sum(results.final(agent, "queries").values())
            behind = paired_difference(final[agent], final[order[0]])
            compared.append(None if agent == group.baseline else paired(final[agent], final.get(group.baseline, {})))
            lines.append(
                RegretLine(
                    agent=agent,
                    regret=mean_interval(values),
                    median=float(np.median(values)),
                    tail=float(np.quantile(values, 0.95)),
                    difference=None,  # judged with those of all others
                    slope=log_log_slope(steps, curves),
                    simple_regret=mean_interval(
                        list(results.final(agent, "simple_regret").values()) if results.has("simple_regret") else []
                    ),
                    microseconds=1e6 * _mean(results.final(agent, "seconds")) / total if total else float("nan"),
                    leads=agent == order[0] or (behind.seeds > 1 and behind.low <= 0),
                )
            )
    shown = judged(compared)
    lines = [dataclasses.replace(line, difference=difference) for line, difference in zip(lines, shown, strict=True)]
    return RegretTable(metric, results.config.agent(results.config.baseline).name, tuple(lines), rounds)


def tables(results: Results) -> list[TextTable]:
    """Make the tables of a run, those that answer its question first; the comparison is one for each world."""
    regret = regret_table(results)
    groups = group_agents(results)
    gains = [gains_table(results, group) for group in groups] if results.config.report_at else []
    if regret is not None and results.primary == regret.primary:
        return [dataclasses.replace(regret, name="table"), *gains]
    compared = [comparison_table(results, group) for group in groups]
    return [*compared, *gains, *([] if regret is None else [regret])]


def slope_text(slope: Slope) -> str:
    """Write a slope with its interval."""
    if np.isnan(slope.slope):
        return "-"
    middle, low, high = (fixed(value, 2) for value in (slope.slope, slope.low, slope.high))
    return middle if np.isnan(slope.low) else f"{middle} [{low}, {high}]"


def _figure_text(value: float) -> str:
    return value_text(Interval(value, value, value, 1))


def _mean(by_seed: dict[int, float]) -> float:
    return float(np.mean(list(by_seed.values())))


# Bounds --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A curve to lay over measured ones."""

    name: str
    curve: Callable[[Array], Array]
    """From duels [T], at least 1, to regret [T]."""
    meaning: str
    """What it is, for a caption."""


def bounds_of(results: Results, group: Group) -> list[Bound]:
    """Find the bounds that apply to the world of a group, in the notion of regret that is shown.

    Komiyama's c ln t applies to a preference matrix with a Condorcet winner; the minimax rates have the constant 1,
    so that only their slope is to be compared.
    """
    factor = {"average": 1.0, "sum": 2.0, "utility": 1.0}.get((results.regret or "").removeprefix("regret_"))
    if factor is None:  # weak, strong, Borda and Copeland regret have bounds of their own
        return []
    config = results.config.for_agent(group.agents[0])
    settings = config.env.settings
    if any(key in settings for key in _DISTURBANCES):
        return []
    shape = "a minimax rate with constant 1, of which only the slope counts"
    if config.env.id == _MATRIX:
        given = settings["matrix"]
        if isinstance(given, str) and given.endswith(ARRAY_FILES) and not Path(given).is_file():
            return []  # the report is made where the file is not; curves do without it
        matrix = make_matrix(given)
        found = [Bound("√(KT), shape", partial(bounds.finite_arms, num_arms=len(matrix)), shape)]
        if condorcet_winner(matrix) is not None:
            constant = factor * bounds.komiyama_constant(matrix)
            meaning = "the asymptotic lower bound of Komiyama et al. (2015), which a good agent may undercut at first"
            found.insert(0, Bound(f"c ln T, c = {constant:.3g}", lambda t: constant * np.log(t), meaning))
        return found
    if config.env.id != _FEATURE or not str(_setting(config, "utility")).startswith("linear"):
        return []
    dim = int(_setting(config, "dim"))
    return [
        Bound("√(dT), shape", partial(bounds.linear_finite, dim=dim), shape),
        Bound("d√T, shape", partial(bounds.linear_infinite, dim=dim), shape),
    ]


def _setting(config: Any, name: str) -> Any:
    """Read a setting of the world, or its default."""
    if name in config.env.settings:
        return config.env.settings[name]
    return inspect.signature(world_class(config.env.id)).parameters[name].default
