"""The primary metric at given numbers of labels: what an agent gains early need not be what it ends with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction, label_of
from duelenv.experiments.tables.borderline import borderline_caption, judged, judged_alone
from duelenv.experiments.tables.comparison import file_name, reference_name, seen_text
from duelenv.experiments.tables.groups import Group
from duelenv.experiments.tables.statistics import Interval, family_text, mean_interval, paired
from duelenv.experiments.tables.text_table import TextTable, difference_text, turning_seeds, value_text, verdict_of

__all__ = ["GainsLine", "GainsTable", "gains_table"]


@dataclass(frozen=True)
class GainsLine:
    """One agent at each number of labels."""

    agent: str
    values: tuple[Interval, ...]
    """The primary metric."""
    differences: tuple[Interval | None, ...]
    """Paired differences to the baseline at as many labels; None for the baseline itself."""
    leads: bool = False
    """Never marked: this table has few lines."""

    @property
    def difference(self) -> Interval | None:
        """At the fewest labels."""
        return self.differences[0]

    @property
    def verdict(self) -> str:
        """What that difference shows, in words."""
        return verdict_of(self.difference)


@dataclass(frozen=True)
class GainsTable(TextTable):
    """Agents of one world at several numbers of labels."""

    primary: str
    baseline: str
    labels: tuple[float, ...]
    """Of each replicate; the mean over those of the baseline where they differ."""
    lines: tuple[GainsLine, ...]
    better: Direction | None
    name: str = "gains"
    title: str = ""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """Columns that hold words: the agent and the differences."""
        return (0, *range(2, 2 * len(self.labels) + 1, 2))

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        counts = sorted({value.seeds for line in self.lines for value in line.values})
        seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        noun = "seed" if seeds == "1" else "seeds"
        better = "nobody said which way is better" if self.better is None else f"{self.better} is better"
        marked = [one for line in self.lines for one in line.differences]
        family = [one for one in marked if one is not None and one.adjusted is not None]
        return (
            f"{label_of(self.primary)} by the labels of a seed: {better}; {seeds} {noun}; ± is half a 95 % t-interval, "
            f"brackets are the interval of the difference to {self.baseline} at as many labels, paired by seed"
            f"{family_text(len(family))}{seen_text(family)}{borderline_caption(marked)}."
        )

    def header(self) -> list[str]:
        """Name the columns."""
        return ["agent", *(title for count in self.labels for title in (f"at {count:,.0f} labels", "difference"))]

    def cells(self) -> list[list[str]]:
        """Write the lines as text."""
        return [
            [
                line.agent,
                *(
                    text
                    for value, difference in zip(line.values, line.differences, strict=True)
                    for text in (value_text(value), difference_text(difference))
                ),
            ]
            for line in self.lines
        ]

    def csv(self) -> str:
        """Write a row for each agent and number of labels, with every interval in columns of its own."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        bounds = ("mean", "low", "high", "seeds")
        names = [f"{name}_{bound}" for name in (self.primary, "difference") for bound in bounds]
        writer.writerow(["agent", "labels", *names, "difference_turns_without"])
        for line in self.lines:
            for count, *intervals in zip(self.labels, line.values, line.differences, strict=True):
                values: list[Any] = [line.agent, count]
                for interval in intervals:
                    values += [""] * 4 if interval is None else [getattr(interval, bound) for bound in bounds]
                writer.writerow([*values, turning_seeds(intervals[-1])])
        return stream.getvalue()


def gains_table(results: Results, group: Group) -> GainsTable:
    """Compare the agents of one world at the labels of the config's `report_at`, and at the end."""
    metric, baseline = results.primary, group.baseline
    stops: Sequence[int | None] = (*results.config.report_at, None)
    known = baseline in group.agents
    counted = baseline if known else group.agents[0]
    labels = [mean_interval(list(results.at_labels(counted, "queries", stop).values())).mean for stop in stops]
    # The end, and two numbers that one round passes, are one column.
    distinct = [place for place, count in enumerate(labels) if count not in labels[:place]]
    stops, labels = [stops[place] for place in distinct], [labels[place] for place in distinct]
    reference = [results.at_labels(baseline, metric, stop) if known else {} for stop in stops]
    values = {agent: [results.at_labels(agent, metric, stop) for stop in stops] for agent in group.agents}
    # What they show survives all that the table compares: every agent at every number of labels.
    shown = iter(
        judged(
            [
                None if agent == baseline else paired(own, base)
                for agent in group.agents
                for own, base in zip(values[agent], reference, strict=True)
            ]
        )
    )
    lines = [_line(group.name_of(agent), values[agent], [next(shown) for _ in stops]) for agent in group.agents]
    if metric == "simple_regret":
        for rule, by_seed in results.references(group.agents).items():
            apart = [judged_alone(paired(by_seed, base)) for base in reference]
            lines.append(_line(reference_name(rule), [by_seed] * len(stops), apart))
    return GainsTable(
        metric,
        group.name_of(baseline),
        tuple(labels),
        tuple(lines),
        results.better(metric),
        file_name("gains", group),
        group.title,
    )


def _line(name: str, values: Sequence[dict[int, float]], differences: Sequence[Interval | None]) -> GainsLine:
    return GainsLine(name, tuple(mean_interval(list(own.values())) for own in values), tuple(differences))
