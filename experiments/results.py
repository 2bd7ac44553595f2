"""Reads a run's results and makes the final table; no plotting and no HTML.

The table answers one question: at the same number of labels, who ends better than the baseline, and is the difference
larger than what seeds do by themselves?
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.cell import cells
from duelenv.experiments.config import choices
from duelenv.experiments.runner import open_run
from duelenv.experiments.statistics import Interval, mean_interval, paired_difference
from duelenv.oracles.errors import UserError

__all__ = [
    "Line",
    "Results",
    "Table",
    "TableLine",
    "TextTable",
    "difference_text",
    "fixed",
    "label_of",
    "lower_is_better",
    "make_table",
    "value_text",
    "verdict_of",
]

#: Metrics in the order in which one of them is chosen to compare agents.
_PRIMARY = ("win_rate", "simple_regret", "win_rate_best_of_n", "utility")

#: Notions of regret in the order in which one is chosen for the cumulative column and figure.
_NOTIONS = ("average", "utility", "sum", "borda", "copeland")
#: The same where a policy starts far from the best response: there, probabilities are close to 1 and hardly move.
_POLICY_NOTIONS = ("utility", *_NOTIONS)

_LABELS = {
    "win_rate": "win rate",
    "win_rate_best_of_n": "best-of-n win rate",
    "simple_regret": "simple regret",
    "kl": "KL to start",
    "utility": "utility",
    "queries": "labels",
    "gradient_steps": "gradient steps",
    "seconds": "time",
    "response_tokens": "response length",
    "duel_certainty": "certainty of the last duels",
}

_UNITS = {
    "kl": "nats",
    "seconds": "s",
    "response_tokens": "tokens",
    "queries": "oracle queries",
}


def label_of(metric: str, *, unit: bool = False) -> str:
    """A metric's name as people write it.

    Args:
        metric: Column of `results.parquet`.
        unit: Append the unit in brackets, for axes.
    """
    if metric.startswith("regret_"):
        text = f"{metric.removeprefix('regret_')} regret, cumulative"
    else:
        text = _LABELS.get(metric, metric.replace("_", " "))
    return f"{text} ({_UNITS[metric]})" if unit and metric in _UNITS else text


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one."""
    return "regret" in metric or metric in ("loss", "kl")


class Results:
    """The results of one run directory.

    Args:
        directory: A run directory with at least one finished cell.

    Raises:
        UserError: It is not a run directory, or nothing is finished in it.
    """

    def __init__(self, directory: Path | str) -> None:
        import pyarrow.parquet as pq

        self.directory = Path(directory)
        self.config = open_run(directory)
        table = self.directory / "results.parquet"
        if not table.is_file():
            raise UserError(f"{str(directory)!r} has no results.parquet: no cell is finished, so run it first")
        columns = pq.read_table(table)
        self._agent = np.array(columns["agent"].to_numpy(), dtype=object)
        self._columns: dict[str, NDArray[np.float64]] = {
            name: np.array(columns[name].to_numpy(), dtype=np.float64)  # missing values become NaN
            for name in columns.column_names
            if name != "agent"
        }
        # Nothing is regretted before the first duel.
        start = self._columns["step"] == 0
        for name, values in self._columns.items():
            if name.startswith("regret_"):
                values[start & np.isnan(values)] = 0.0

    @cached_property
    def agents(self) -> list[str]:
        """Labels of the agents with at least one finished cell, in the config's order."""
        present = set(self._agent)
        return [agent.label for agent in self.config.agents if agent.label in present]

    @property
    def metrics(self) -> list[str]:
        """All measured columns."""
        return [name for name in self._columns if name not in ("seed", "step")]

    @cached_property
    def primary(self) -> str:
        """The metric that agents are compared by."""
        chosen = self.config.metric
        if chosen is not None:
            if chosen not in self._columns:
                raise UserError(
                    f"'metric' is {chosen!r}, which this run did not measure: {choices(chosen, self.metrics)}"
                )
            return chosen
        for name in _PRIMARY:
            if name in self._columns:
                return name
        return self.metrics[-1]

    @cached_property
    def regret(self) -> str | None:
        """The column of cumulative regret that is shown, or None if the truth is unknown."""
        if self.primary.startswith("regret_"):
            return self.primary
        known = [name for name in self._columns if name.startswith("regret_")]
        for notion in _NOTIONS if self.config.replicated else _POLICY_NOTIONS:
            if f"regret_{notion}" in known:
                return f"regret_{notion}"
        return known[0] if known else None

    def seeds(self, agent: str) -> list[int]:
        """Seeds with results."""
        return sorted({int(seed) for seed in self._columns["seed"][self._agent == agent]})

    def curve(self, agent: str, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Learning curves of an agent.

        Args:
            agent: Its label.
            metric: A column.

        Returns:
            Steps [T] and values [S, T], one row per seed; NaN where a value was not measured.
        """
        rows = self._agent == agent
        steps = np.unique(self._columns["step"][rows])
        seeds = self.seeds(agent)
        values = np.full((len(seeds), len(steps)), np.nan)
        row = np.searchsorted(seeds, self._columns["seed"][rows])
        column = np.searchsorted(steps, self._columns["step"][rows])
        values[row, column] = self._columns[metric][rows]
        return steps, values

    def final(self, agent: str, metric: str) -> dict[int, float]:
        """The last value by seed, without the missing ones."""
        _, values = self.curve(agent, metric)
        return {
            seed: float(value)
            for seed, value in zip(self.seeds(agent), values[:, -1], strict=True)
            if not np.isnan(value)
        }

    @cached_property
    def references(self) -> dict[str, dict[int, float]]:
        """Simple regret by seed of rules that learn nothing, where the world knows some."""
        found: dict[str, dict[int, float]] = {}
        for cell in cells(self.config):
            path = self.directory / "cells" / cell.name / "references.json"
            if not path.exists():
                continue
            for name, values in json.loads(path.read_text(encoding="utf-8")).items():
                found.setdefault(name, {}).update(zip(cell.seeds, values, strict=True))
        return found

    def has(self, metric: str) -> bool:
        """Whether the metric was measured for any agent."""
        return metric in self._columns and not bool(np.isnan(self._columns[metric]).all())


@dataclass(frozen=True)
class Line:
    """One agent's line of the final table."""

    agent: str
    labels: Interval
    gradient_steps: Interval
    primary: Interval
    difference: Interval | None
    """Paired difference to the baseline in the primary metric; None for the baseline itself."""
    others: tuple[Interval, ...]
    seconds: Interval

    peer: str | None = None
    """The variant of the baseline that took as many gradient steps, where that is not the baseline itself."""
    peer_difference: Interval | None = None
    """Paired difference to the peer in the primary metric."""
    learns: bool = True
    """False for a reference, which asks for no labels."""
    leads: bool = False
    """Never marked: this table has few lines."""

    @property
    def verdict(self) -> str:
        """What the difference shows, in words."""
        return verdict_of(self.difference)


class TextTable(ABC):
    """A table with one line per agent, as text and as Markdown."""

    primary: str
    """The metric by which agents are compared."""
    baseline: str
    """Label of the agent that they are compared to."""
    lines: Sequence[TableLine]
    """The agents, in the order of `cells`."""

    @property
    @abstractmethod
    def text_columns(self) -> tuple[int, ...]:
        """Columns that hold words: the agent and the differences."""

    @property
    @abstractmethod
    def caption(self) -> str:
        """What the reader has to know."""

    @abstractmethod
    def header(self) -> list[str]:
        """Column titles."""

    @abstractmethod
    def cells(self) -> list[list[str]]:
        """The lines as text."""

    @abstractmethod
    def csv(self) -> str:
        """The numbers behind the table."""

    def text(self) -> str:
        """The table for a terminal; a star marks the agents that lead."""
        stars = ["", *(" *" if line.leads else "" for line in self.lines)]
        rows = [[row[0] + star, *row[1:]] for star, row in zip(stars, [self.header(), *self.cells()], strict=True)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        left = self.text_columns  # words to the left, numbers to the right
        lines = [
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        return "\n".join(lines)

    def markdown(self) -> str:
        """The table for a README; the names of agents that lead are bold."""
        header = self.header()
        rule = [":--" if column in self.text_columns else "--:" for column in range(len(header))]
        rows = [
            [f"**{cells[0]}**" if line.leads else cells[0], *cells[1:]]
            for line, cells in zip(self.lines, self.cells(), strict=True)
        ]
        return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows]) + "\n"


class TableLine(Protocol):
    """What any line of a table tells of its agent."""

    @property
    def agent(self) -> str:
        """Its label."""

    @property
    def difference(self) -> Interval | None:
        """Paired difference to the baseline; None for the baseline itself."""

    @property
    def verdict(self) -> str:
        """What the difference shows, in words."""

    @property
    def leads(self) -> bool:
        """Whether the line is marked: nothing is shown to be better."""


@dataclass(frozen=True)
class Table(TextTable):
    """The final table of a run."""

    primary: str
    baseline: str
    others: tuple[str, ...]
    """Further metrics, in the order of `Line.others`."""
    lines: tuple[Line, ...]
    shared_time: bool
    """Whether all seeds of an agent ran together, so that its time is that of all."""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """Columns that hold words: the agent and the differences."""
        difference = 4 if self._trained else 3
        return (0, difference, difference + 1) if self._has_peers else (0, difference)

    @property
    def _trained(self) -> bool:
        """Whether any policy was trained; without one, a column of zeros says nothing."""
        return any(line.gradient_steps.mean > 0 for line in self.lines)

    @property
    def _has_peers(self) -> bool:
        """Whether any agent took another number of gradient steps than the baseline, and has a peer for that."""
        return any(line.peer is not None for line in self.lines)

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        counts = sorted({line.primary.seeds for line in self.lines if line.learns})
        seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        noun = "seed" if seeds == "1" else "seeds"
        better = "lower is better" if lower_is_better(self.primary) else "higher is better"
        time = "time is that of all seeds together" if self.shared_time else "time is the mean of a seed"
        return (
            f"{seeds} {noun}; ± is half a 95 % t-interval over seeds, brackets are the interval of the difference to "
            f"{self.baseline}, paired by seed; {label_of(self.primary)}: {better}; {time}, without evaluation."
        )

    def header(self) -> list[str]:
        """Column titles."""
        return [
            "agent",
            "labels",
            *(["gradient steps"] if self._trained else []),
            label_of(self.primary),
            f"difference to {self.baseline}",
            *(["difference at equal gradient steps"] if self._has_peers else []),
            *(label_of(metric, unit=True) for metric in self.others),
            "time",
        ]

    def cells(self) -> list[list[str]]:
        """The lines as text."""
        return [
            [
                line.agent,
                _count(line.labels),
                *([_count(line.gradient_steps)] if self._trained else []),
                value_text(line.primary),
                difference_text(line.difference),
                *([_peer_difference(line)] if self._has_peers else []),
                *(value_text(interval) for interval in line.others),
                _seconds(line.seconds),
            ]
            for line in self.lines
        ]

    def csv(self) -> str:
        """The numbers behind the table, with every interval in columns of its own."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        names = ["labels", "gradient_steps", self.primary, "difference", "peer_difference", *self.others, "seconds"]
        bounds = ("mean", "low", "high", "seeds")
        writer.writerow(["agent", *(f"{name}_{bound}" for name in names for bound in bounds)])
        for line in self.lines:
            intervals = [
                *(line.labels, line.gradient_steps, line.primary, line.difference, line.peer_difference),
                *(*line.others, line.seconds),
            ]
            values: list[Any] = [line.agent]
            for interval in intervals:
                values += ["", "", "", ""] if interval is None else [getattr(interval, bound) for bound in bounds]
            writer.writerow(values)
        return stream.getvalue()


def make_table(results: Results) -> Table:
    """The final table of a run."""
    primary, baseline = results.primary, results.config.baseline
    candidates: Sequence[str | None] = (
        ("kl", "win_rate_best_of_n") if results.has("win_rate") else ("win_rate_best_of_n",)
    )
    others = [name for name in (*candidates, results.regret, "duel_certainty") if name is not None]
    others = [name for name in others if results.has(name) and name != primary]
    reference = results.final(baseline, primary) if baseline in results.agents else {}
    lines = []
    for agent in results.agents:
        final = results.final(agent, primary)
        peer = _peer(results, agent)
        lines.append(
            Line(
                agent=agent,
                labels=_over_seeds(results.final(agent, "queries").values()),
                gradient_steps=_over_seeds(results.final(agent, "gradient_steps").values()),
                primary=_over_seeds(final.values()),
                difference=None if agent == baseline else paired_difference(final, reference),
                others=tuple(_over_seeds(results.final(agent, name).values()) for name in others),
                seconds=_over_seeds(results.final(agent, "seconds").values()),
                peer=peer,
                peer_difference=None if peer is None else paired_difference(final, results.final(peer, primary)),
            )
        )
    unknown = _over_seeds([])
    for name, by_seed in results.references.items() if primary == "simple_regret" else ():
        values = {seed: value for seed, value in by_seed.items() if not np.isnan(value)}
        lines.append(
            Line(
                agent=f"({name.replace('_', ' ')})",
                labels=unknown,
                gradient_steps=unknown,
                primary=_over_seeds(values.values()),
                difference=paired_difference(values, reference),
                others=tuple(unknown for _ in others),
                seconds=unknown,
                learns=False,
            )
        )
    return Table(primary, baseline, tuple(others), tuple(lines), results.config.replicated)


def _peer(results: Results, agent: str) -> str | None:
    """The variant of the baseline that took as many gradient steps as an agent that is no such variant.

    None where the baseline itself did, or no variant did.
    """
    names = {made.label: made.name for made in results.config.agents}
    baseline = results.config.baseline
    if baseline not in results.agents or names[agent] == names[baseline]:
        return None
    steps = {label: _over_seeds(results.final(label, "gradient_steps").values()).mean for label in results.agents}
    if steps[agent] == steps[baseline]:
        return None
    variants = [label for label in results.agents if names[label] == names[baseline]]
    return next((label for label in variants if steps[label] == steps[agent]), None)


def verdict_of(difference: Interval | None) -> str:
    """What a paired difference shows, in words; None is the baseline's."""
    if difference is None:
        return "baseline"
    if difference.seeds < 2:
        return "one seed shows nothing"
    return "" if difference.shows_difference else "no difference shown"


def _over_seeds(values: Iterable[float]) -> Interval:
    return mean_interval(list(values))


def _digits(interval: Interval) -> int:
    """Decimals that show the interval's two leading digits, and at least three of a share."""
    size = abs(interval.mean)
    return 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def fixed(value: float, digits: int) -> str:
    """A number with so many decimals and commas, without the sign of a zero."""
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def value_text(interval: Interval) -> str:
    """A mean with half its interval."""
    if interval.seeds == 0:
        return "-"
    digits = _digits(interval)
    mean = f"{interval.mean:,.{digits}f}"
    return mean if interval.seeds < 2 else f"{mean} ± {interval.half_width:,.{digits}f}"


def _peer_difference(line: Line) -> str:
    if line.peer_difference is None:
        return ""
    return f"{difference_text(line.peer_difference)} (to {line.peer})"


def difference_text(interval: Interval | None) -> str:
    """A paired difference with its interval and what it shows; None is the baseline's."""
    if interval is None:
        return "baseline"
    if interval.seeds == 0:
        return "no seed in common"
    digits = _digits(interval)
    mean = f"{interval.mean:+,.{digits}f}"
    if interval.seeds < 2:
        return f"{mean} (one seed)"
    bounds = f"[{interval.low:+,.{digits}f}, {interval.high:+,.{digits}f}]"
    return f"{mean} {bounds} {verdict_of(interval)}".rstrip()


def _count(interval: Interval) -> str:
    return "-" if interval.seeds == 0 else f"{interval.mean:,.0f}"


def _seconds(interval: Interval) -> str:
    value = interval.mean
    if np.isnan(value):
        return "-"
    if value < 100:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"
