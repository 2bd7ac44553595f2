"""Tables as the page shows them: cells in parts that are styled apart, with what they are sorted by, in groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction
from duelenv.experiments.tables.borderline import BORDERLINE, FEW
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.text_table import TableLine, TextTable

__all__ = ["Cell", "GroupView", "Row", "TableView", "cell_of", "plain_view", "table_view"]

_UNITS: Final = {None: 1.0, "µs": 1e-6, "s": 1.0, "min": 60.0, "h": 3600.0, "%": 1.0}
#: A number or a time, its interval, and behind them a word or two.
_PARTS: Final = re.compile(
    r"(?P<lead>(?P<value>[+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)"
    r"(?: (?P<unit>h|min|s|µs|%)(?!\w))?(?: (?P<less>\d+) (?P<lesser>min|s)\b)?)"
    r"(?: (?P<rest>± [\d,.]+|\[[^\]]*\]))?(?: (?P<note>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        lead: What is read first.
        rest: Its interval, which may stand on a line of its own.
        note: What that shows, in words.
        sort: What a column is sorted by; None where the cell says no number.
        shown: Whether it is a difference that is shown.
    """

    lead: str
    rest: str = ""
    note: str = ""
    sort: float | None = None
    shown: bool = False


@dataclass(frozen=True)
class Row:
    """One line: its cells, the first a name, and how it stands out: `baseline`, `leads` or not."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class GroupView:
    """Lines of one world; without a title where there is one."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TableView:
    """A table in one or several groups with the same columns.

    Attributes:
        name: Of its files; empty where it has none.
        title: Which world it is of; empty where it is of all.
        header: Titles of columns.
        words: Places of columns that hold words.
        groups: The lines.
        caption: What the reader has to know.
    """

    name: str
    title: str
    header: tuple[str, ...]
    words: tuple[int, ...]
    groups: tuple[GroupView, ...]
    caption: str

    @property
    def size(self) -> str:
        """By columns, which decide at which width lines become cards: `few`, `many` or `most`."""
        columns = len(self.header)
        return "few" if columns < 7 else "many" if columns < 10 else "most"


def cell_of(text: str) -> Cell:
    """Take the text of a cell apart.

    Example:
        >>> cell_of("+0.10 [+0.05, +0.15] better")
        Cell(lead='+0.10', rest='[+0.05, +0.15]', note='better', sort=0.1, shown=False)
        >>> cell_of("2 min 03 s").sort
        123.0
    """
    found = _PARTS.fullmatch(text)
    if found is None:
        return Cell(text)
    value = float(found["value"].replace(",", "")) * _UNITS[found["unit"]]
    less = float(found["less"] or 0) * _UNITS[found["lesser"]]
    return Cell(found["lead"], found["rest"] or "", found["note"] or "", value + less)


def table_view(results: Results, table: TextTable) -> TableView:
    """Make a table as the page shows it; one whose lines are of several worlds has a group for each.

    Args:
        results: The run.
        table: One of its tables. Where it is of several worlds, its lines have agents' labels.
    """
    rows = [(line.agent, _row(table, line, cells)) for line, cells in zip(table.lines, table.cells(), strict=True)]
    groups = group_agents(results)
    if table.title or len(groups) == 1:
        parts = [GroupView("", tuple(row for _, row in rows))]
    else:
        parts = []
        for group in groups:
            own = [
                replace(row, cells=(Cell(group.name_of(label)), *row.cells[1:]))
                for label, row in rows
                if label in group.agents
            ]
            parts.append(GroupView(group.title, tuple(own)))
    return TableView(table.name, table.title, tuple(table.header()), table.text_columns, tuple(parts), table.caption)


def plain_view(header: Sequence[str], words: Sequence[int], rows: Sequence[Sequence[str]], caption: str) -> TableView:
    """Make a table of texts without files, in one group."""
    lines = tuple(
        Row(tuple(cell_of(text) if at not in words else Cell(text) for at, text in enumerate(row))) for row in rows
    )
    return TableView("", "", tuple(header), tuple(words), (GroupView("", lines),), caption)


def _row(table: TextTable, line: TableLine, texts: Sequence[str]) -> Row:
    cells = [Cell(texts[0]), *(cell_of(text) for text in texts[1:])]
    for place in table.text_columns[1:]:
        cells[place] = _judged(cells[place], table.better)
    if len(table.text_columns) > 1 and line.difference is not None:
        place = table.text_columns[1]
        cells[place] = replace(cells[place], note=table.outcome(line), shown=line.difference.shows_difference)
    kind = "leads" if line.leads else "baseline" if line.difference is None and len(table.text_columns) > 1 else ""
    return Row(tuple(cells), kind)


def _judged(cell: Cell, better: Direction | None) -> Cell:
    """Say which way a difference goes that is shown and of which nothing else is said."""
    if not cell.rest.startswith("[") or not cell.sort or (cell.note and not cell.note.startswith((BORDERLINE, FEW))):
        return cell
    way: Direction = "higher" if cell.sort > 0 else "lower"
    word = way if better is None else "better" if way == better else "worse"
    return replace(cell, note="; ".join(part for part in (word, cell.note) if part), shown=True)
