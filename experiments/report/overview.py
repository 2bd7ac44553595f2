"""Runs in several worlds at a glance: agents down, worlds across, in place of all lines one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from duelenv.experiments.report.table_view import Cell, GroupView, Row, TableView, cell_of
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.statistics import mean_interval
from duelenv.experiments.tables.text_table import TextTable, value_text

__all__ = ["overview"]


def overview(results: Results, tables: Sequence[TextTable]) -> TableView | None:
    """Find the headline of every agent in every world, and whether it is shown to differ from the baseline there.

    Args:
        results: The run.
        tables: As `duelenv.experiments.tables.regret.tables` makes them.

    Returns:
        None where there is one world.
    """
    groups = group_agents(results)
    if len(groups) < 2:
        return None
    shown: dict[str, str] = {}
    for table in tables:
        if table.primary != results.primary or table.name.partition("-")[0] != "table":
            continue
        labels = {
            group.name_of(label): label for group in groups if group.title == table.title for label in group.agents
        }
        for line in table.lines:
            label = labels.get(line.agent, line.agent)
            if line.difference is not None and line.difference.shows_difference:
                shown[label] = table.direction(line)
    labels_in = [dict(zip(group.names, group.agents, strict=True)) for group in groups]
    names = list(dict.fromkeys(name for group in groups for name in group.names))
    rows = []
    for name in names:
        cells = [Cell(name)]
        for own in labels_in:
            if name not in own:
                cells.append(Cell(""))
                continue
            text = value_text(mean_interval(list(results.final(own[name], results.primary).values())))
            cells.append(cell_of(f"{text} {shown.get(own[name], '')}".rstrip()))
        baseline = any(group.baseline in group.agents and group.name_of(group.baseline) == name for group in groups)
        rows.append(Row(tuple(cells), "baseline" if baseline else ""))
    better = results.better(results.primary)
    if better is not None:
        rows.sort(key=lambda row: _mean(row), reverse=better == "higher")
    way = "nobody said which way is better" if better is None else f"{better} is better"
    caption = (
        f"{label_of(results.primary)} at the end, by world: {way}; ± is half a 95 % t-interval. A word says where the "
        "difference to that world's baseline is shown after correction; the tables of each world have the numbers."
    )
    header = ("agent", *(group.title for group in groups))
    return TableView("", "", header, (0,), (GroupView("", tuple(rows)),), caption)


def _mean(row: Row) -> float:
    known = [cell.sort for cell in row.cells[1:] if cell.sort is not None]
    return sum(known) / len(known) if known else float("inf")
