"""A table with one line per agent as text and as Markdown, and how its numbers are written.

What the lines say is decided in `duelenv.experiments.tables.comparison` and `duelenv.experiments.tables.regret`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from duelenv.experiments.results.metrics import Direction
from duelenv.experiments.tables.borderline import marks_of
from duelenv.experiments.tables.layout import laid_out
from duelenv.experiments.tables.statistics import Interval
from duelenv.ground.terminal import printable

__all__ = [
    "TableLine",
    "TextTable",
    "count_text",
    "difference_text",
    "duration_text",
    "fixed",
    "turning_seeds",
    "value_text",
    "verdict_of",
]


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


class TextTable(ABC):
    """A table with one line per agent, as text and as Markdown."""

    name: str
    """Of its files."""
    title: str
    """Which of the run's worlds it is of; empty where there is one."""
    primary: str
    """The metric by which agents are compared."""
    baseline: str
    """Label of the agent that they are compared to."""
    lines: Sequence[TableLine]
    """The agents, in the order of `cells`."""
    better: Direction | None
    """Which way of the primary metric is better, or None where nobody said."""

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
        """Name the columns."""

    @abstractmethod
    def cells(self) -> list[list[str]]:
        """Write the lines as text."""

    @abstractmethod
    def csv(self) -> str:
        """Write the numbers behind the table."""

    def direction(self, line: TableLine) -> str:
        """Tell which way a line differs from the baseline, in one word; empty where it does not, or is the baseline.

        Better or worse, or where nobody said which way is better, higher or lower.
        """
        if line.difference is None or not abs(line.difference.mean) > 0:
            return ""
        way = "higher" if line.difference.mean > 0 else "lower"
        if self.better is None:
            return way
        return "better" if way == self.better else "worse"

    def outcome(self, line: TableLine) -> str:
        """Say what a line's difference shows, its direction included, and how far that can be relied on."""
        shown = line.difference is not None and line.difference.shows_difference
        words = self.direction(line) if shown else line.verdict
        return "; ".join(part for part in (words, marks_of(line.difference)) if part)

    def text(self, width: int | None = None) -> str:
        """Write the table for a terminal of a width, or for any reader; a star marks the agents that lead."""
        stars = ["", *(" *" if line.leads else "" for line in self.lines)]
        rows = [
            [printable(cell) for cell in (row[0] + star, *row[1:])]
            for star, row in zip(stars, [self.header(), *self.cells()], strict=True)
        ]
        return laid_out(rows, self.text_columns, width)

    def markdown(self) -> str:
        """Write the table for a README; the names of agents that lead are bold."""
        header = self.header()
        rule = [":--" if column in self.text_columns else "--:" for column in range(len(header))]
        rows = [
            [f"**{cells[0]}**" if line.leads else cells[0], *cells[1:]]
            for line, cells in zip(self.lines, self.cells(), strict=True)
        ]
        return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows]) + "\n"


def verdict_of(difference: Interval | None) -> str:
    """Say what a paired difference shows, in words; None is the baseline's."""
    if difference is None:
        return "baseline"
    if difference.seeds < 2:
        return "one seed shows nothing"
    return "" if difference.shows_difference else "no difference shown"


def _digits(interval: Interval) -> int:
    """Choose decimals for a mean: four digits in all where it is below 1,000, and three decimals of a share."""
    size = abs(interval.mean)
    return 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals and commas, without the sign of a zero."""
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def value_text(interval: Interval) -> str:
    """Write a mean with half its interval."""
    if interval.seeds == 0:
        return "-"
    digits = _digits(interval)
    mean = f"{interval.mean:,.{digits}f}"
    return mean if interval.seeds < 2 else f"{mean} ± {interval.half_width:,.{digits}f}"


def difference_text(interval: Interval | None, *, verdict: bool = True) -> str:
    """Write a paired difference with its interval and, if wanted, what it shows; None is the baseline's."""
    if interval is None:
        return "baseline"
    if interval.seeds == 0:
        return "no seed in common"
    digits = _digits(interval)
    mean = f"{interval.mean:+,.{digits}f}"
    if interval.seeds < 2:
        return f"{mean} (one seed)"
    bounds = f"[{interval.low:+,.{digits}f}, {interval.high:+,.{digits}f}]"
    said = "; ".join(words for words in (verdict_of(interval), marks_of(interval)) if words) if verdict else ""
    return f"{mean} {bounds} {said}".rstrip()


def turning_seeds(interval: Interval | None) -> str:
    """Find the seeds without any one of which a verdict would be the other, for a column of CSV."""
    return "" if interval is None else " ".join(str(seed) for seed in interval.turns_without)


def count_text(interval: Interval) -> str:
    """Write a mean count, without its interval."""
    return "-" if interval.seeds == 0 else f"{interval.mean:,.0f}"


def duration_text(interval: Interval) -> str:
    """Write a mean time in seconds, in the unit that suits it."""
    value = interval.mean
    if np.isnan(value):
        return "-"
    if value < 100:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"
