"""The differences of a run's headline as a forest plot shows them: by world, with intervals alone and corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction
from duelenv.experiments.tables.comparison import ComparisonTable, file_name
from duelenv.experiments.tables.groups import Group, group_agents
from duelenv.experiments.tables.regret import RegretTable
from duelenv.experiments.tables.simultaneous import holm_intervals
from duelenv.experiments.tables.statistics import Interval
from duelenv.experiments.tables.text_table import TextTable

__all__ = ["Forest", "ForestRow", "forests"]


@dataclass(frozen=True)
class ForestRow:
    """One agent against the baseline.

    Attributes:
        agent: Its label.
        name: Its name among the agents of its world.
        alone: The paired difference with its interval of 95 %, and what it shows after correction.
        corrected: The same with the interval that the correction asks for, see `holm_intervals`.
    """

    agent: str
    name: str
    alone: Interval
    corrected: Interval


@dataclass(frozen=True)
class Forest:
    """All differences of one world, the best first.

    Attributes:
        name: Of its files.
        title: Which world it is; empty where there is one.
        metric: What was compared.
        baseline: Name of what all are compared to.
        better: Which way is better, or None where nobody said.
        rows: The agents.
        family: Comparisons that the correction is for.
    """

    name: str
    title: str
    metric: str
    baseline: str
    better: Direction | None
    rows: tuple[ForestRow, ...]
    family: int


_Part = tuple[Group, TextTable, dict[str, Interval | None], dict[str, Interval | None]]


def forests(results: Results, tables: Sequence[TextTable]) -> list[Forest]:
    """Find the differences behind a run's first table, for each world that has any with an interval.

    Args:
        results: The run.
        tables: As `duelenv.experiments.tables.regret.tables` makes them.
    """
    groups = group_agents(results)
    first = tables[0]
    if isinstance(first, RegretTable):
        alone = {line.agent: line.difference for line in first.lines}
        corrected = dict(zip(alone, holm_intervals(list(alone.values())), strict=True))
        parts: list[_Part] = [(group, first, alone, corrected) for group in groups]
    else:
        parts = []
        for group, table in zip(groups, tables, strict=False):
            assert isinstance(table, ComparisonTable)
            learned = [line.difference for line in table.lines if line.learns]
            alone = dict(zip(group.agents, learned, strict=True))
            parts.append((group, table, alone, dict(zip(group.agents, holm_intervals(learned), strict=True))))
    made = [_forest(*part) for part in parts]
    return [one for one in made if one.rows]


def _forest(
    group: Group, table: TextTable, alone: dict[str, Interval | None], corrected: dict[str, Interval | None]
) -> Forest:
    rows = []
    for label in group.agents:
        own, wide = alone.get(label), corrected.get(label)
        if own is not None and wide is not None and own.seeds > 1:
            rows.append(ForestRow(label, group.name_of(label), own, wide))
    rows.sort(key=lambda row: row.alone.mean, reverse=table.better != "lower")
    family = sum(one is not None and one.seeds > 1 for one in alone.values())
    baseline = group.name_of(group.baseline)
    return Forest(
        file_name("differences", group), group.title, table.primary, baseline, table.better, tuple(rows), family
    )
