"""Standings and comparisons as rows of text, for a terminal and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from duelenv.experiments.leaderboard.scores import Estimate
from duelenv.experiments.leaderboard.standings import Comparison, Line, Standings
from duelenv.experiments.leaderboard.stored import Now, Row, Table
from duelenv.experiments.leaderboard.worlds import World
from duelenv.experiments.tables.statistics import Interval
from duelenv.experiments.tables.text_table import fixed
from duelenv.ground.terminal import printable

__all__ = [
    "PARTLY",
    "REFUSED",
    "aligned",
    "comparison_rows",
    "made_text",
    "markdown",
    "standings_rows",
    "verdict",
    "world_rows",
]

#: In the place of a score, and of what is of a whole group.
REFUSED, ABSENT, NO_SCALE, PARTLY = "-", "absent", "no scale", "not all"

Rows = list[list[str]]

_FIGURE: Final = re.compile(r"-?[\d,.]+( [\[(].*[\])])?")


def standings_rows(found: Standings, table: Table, now: Mapping[tuple[str, str], Now]) -> Rows:
    """Write the standings of a group, header first.

    Args:
        found: The standings.
        table: What they were made of.
        now: What rows of today would say of where they come from, by agent and world; those of others are not judged.
    """
    header = ["agent", "IQM [95 %]", "mean rank [95 %]", "behind the first [95 %]", *(w.name for w in found.worlds)]
    rows = [[*header, "played"]]
    for line in found.lines:
        cells = [_cell(line, world, found, table) for world in found.worlds]
        behind = "the first" if line.iqm is not None and line.behind is None else _difference(line.behind)
        row = [line.agent, _estimate(line.iqm, 3), _estimate(line.rank, 1), behind, *cells]
        rows.append([*row, made_text(_rows(table, line.agent, found.worlds), now)])
    return rows


def comparison_rows(
    found: Sequence[Comparison], groups: Sequence[Standings], table: Table, now: Mapping[tuple[str, str], Now]
) -> Rows:
    """Write the comparisons of one agent, header first.

    Args:
        found: They.
        groups: The standings that they belong to.
        table: What they were made of.
        now: As for `standings_rows`; a rival whose rows are stale is marked.
    """
    worlds = {one.group.name: one.worlds for one in groups}
    rows = [["group", "rival", "difference [95 %]", "verdict"]]
    for one in found:
        old = "; the rival's rows are stale" if _stale(_rows(table, one.rival, worlds[one.group]), now) else ""
        rows.append([one.group, one.rival, _difference(one.difference), verdict(one.difference) + old])
    return rows


def world_rows(found: Standings) -> Rows:
    """Write the worlds of a group with their scales, header first."""
    rows = [["world", "what it is", "seeds", "figure", "scores 0", "scores 1"]]
    for world in found.worlds:
        scale = found.scales.get(world.name)
        floor = f"{world.floor}, not played yet" if scale is None else f"{scale.floor:.4g}, {world.floor}"
        known = world.ceiling.value if scale is None else scale.ceiling
        ceiling = world.ceiling.about if known is None else f"{known:.4g}, {world.ceiling.about}"
        rows.append([world.name, world.about, str(world.seeds), world.metric, floor, ceiling])
    return rows


def verdict(difference: Interval) -> str:
    """Say what a difference of scores shows, in words."""
    if not difference.shows_difference:
        return "no difference shown"
    return "better" if difference.mean > 0 else "worse"


def made_text(rows: Sequence[Row], now: Mapping[tuple[str, str], Now]) -> str:
    """Say versions and days of an agent's rows, and why some of them are stale."""
    stale = _stale(rows, now)
    played = [row for row in rows if row.refused is None] or rows
    versions = " ".join(dict.fromkeys(row.made.version for row in played))
    days = sorted({row.date for row in played})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{versions}, {when}" + (f", stale: {'; '.join(stale)}" if stale else "")


def _stale(rows: Sequence[Row], now: Mapping[tuple[str, str], Now]) -> list[str]:
    """Say why some rows are stale, each reason once."""
    reasons = [row.stale(now[row.agent, row.world]) for row in rows if (row.agent, row.world) in now]
    return list(dict.fromkeys(why for why in reasons if why is not None))


def aligned(rows: Rows) -> str:
    """Write rows for a terminal, the header underlined."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(rows: Rows, bold: Sequence[str] = ()) -> str:
    """Write rows as Markdown; those whose first cell is one of `bold` have it bold."""
    named = [[f"**{row[0]}**" if row[0] in bold else row[0], *row[1:]] for row in rows[1:]]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [rows[0], *named]]
    rule = [":--", *("--:" if _is_figure(column) else ":--" for column in list(zip(*escaped[1:], strict=True))[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [escaped[0], rule, *escaped[1:]]) + "\n"


def _is_figure(cells: Sequence[str]) -> bool:
    """Whether cells of a column are numbers, perhaps with an interval or a rank behind, or stand for one."""
    return all(cell in (REFUSED, ABSENT, NO_SCALE, PARTLY, "the first") or _FIGURE.fullmatch(cell) for cell in cells)


def _cell(line: Line, world: World, found: Standings, table: Table) -> str:
    if world.name in line.scores:
        return fixed(line.scores[world.name], 3)
    if world.name in line.refused:
        return REFUSED
    row = table.of(line.agent, world.name)
    return ABSENT if row is None or world.name in found.scales else NO_SCALE


def _rows(table: Table, agent: str, worlds: Sequence[World]) -> list[Row]:
    return [row for world in worlds if (row := table.of(agent, world.name)) is not None]


def _estimate(one: Estimate | None, digits: int) -> str:
    if one is None:
        return PARTLY
    return f"{fixed(one.value, digits)} [{fixed(one.low, digits)}, {fixed(one.high, digits)}]"


def _difference(one: Interval | None) -> str:
    if one is None:
        return PARTLY
    mean, low, high = (fixed(value, 3) for value in (one.mean, one.low, one.high))
    return f"{mean} [{low}, {high}]"
