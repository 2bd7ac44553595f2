"""A table of what agents ended with in metrics that nobody is compared by: beliefs, informative duels, costs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction, label_of
from duelenv.experiments.tables.statistics import Interval, mean_interval
from duelenv.experiments.tables.text_table import TextTable, count_text, duration_text, value_text

__all__ = ["BELIEFS", "COSTS", "INFORMATIVE", "MeasuresLine", "MeasuresTable", "measures_table"]

BELIEFS: Final = ("belief_calibration", "belief_calibration_off", "belief_log_loss", "belief_log_loss_off")
"""How sure and how wrong beliefs are, see `duelenv.calibration`."""
INFORMATIVE: Final = ("informative_duels", "first_informative_label", "third_informative_label", "duel_certainty")
"""See `duelenv.experiments.results.informative`."""
COSTS: Final = ("queries", "evaluation_queries", "unanswered", "gradient_steps", "seconds")
"""What was spent."""

#: Those that are counted, of which decimals say little.
_COUNTS: Final = ("queries", "evaluation_queries", "unanswered", "gradient_steps")


@dataclass(frozen=True)
class MeasuresLine:
    """What one agent ended with."""

    agent: str
    values: tuple[Interval, ...]
    """One for each metric."""
    difference: None = None
    """Nobody is compared."""
    verdict: str = ""
    leads: bool = False


@dataclass(frozen=True)
class MeasuresTable(TextTable):
    """Agents and metrics."""

    name: str
    metrics: tuple[str, ...]
    lines: tuple[MeasuresLine, ...]
    note: str
    """What the reader has to know of the metrics."""
    primary: str = ""
    baseline: str = ""
    better: Direction | None = None
    title: str = ""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """The agent."""
        return (0,)

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        most = max((value.seeds for line in self.lines for value in line.values), default=0)
        seeds = "One seed" if most == 1 else f"Means at the end, over the seeds that have a value, {most:,} at most"
        spread = any("±" in cell for cells in self.cells() for cell in cells)
        return f"{self.note} {seeds}{'; ± is half a 95 % t-interval' if spread else ''}."

    def header(self) -> list[str]:
        """List column titles."""
        return ["agent", *(label_of(metric, unit=metric not in (*_COUNTS, "seconds")) for metric in self.metrics)]

    def cells(self) -> list[list[str]]:
        """Write the lines as text."""
        return [
            [line.agent, *(_text(metric, value) for metric, value in zip(self.metrics, line.values, strict=True))]
            for line in self.lines
        ]

    def csv(self) -> str:
        """Find the numbers behind the table, with every interval in columns of its own."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        bounds = ("mean", "low", "high", "seeds")
        writer.writerow(["agent", *(f"{metric}_{bound}" for metric in self.metrics for bound in bounds)])
        for line in self.lines:
            writer.writerow([line.agent, *(getattr(value, bound) for value in line.values for bound in bounds)])
        return stream.getvalue()


def measures_table(results: Results, name: str, metrics: Sequence[str], note: str) -> MeasuresTable | None:
    """Say what agents ended with in some metrics, as far as any had more than 0 of it; None where nobody had.

    Args:
        results: The run.
        name: Of the table's files.
        metrics: Columns.
        note: A sentence for the caption.
    """
    final = {
        metric: {agent: mean_interval(list(results.final(agent, metric).values())) for agent in results.agents}
        for metric in metrics
        if results.has(metric)
    }
    known = tuple(metric for metric, own in final.items() if any(value.mean > 0 for value in own.values()))
    lines = []
    for agent in results.agents:
        values = tuple(final[metric][agent] for metric in known)
        if any(value.seeds for value in values):
            lines.append(MeasuresLine(agent, values))
    return MeasuresTable(name, known, tuple(lines), note) if lines else None


def _text(metric: str, value: Interval) -> str:
    if metric in _COUNTS:
        return count_text(value)
    return duration_text(value) if metric == "seconds" else value_text(value)
