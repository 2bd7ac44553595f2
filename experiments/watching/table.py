"""A run at a moment as a table on a terminal, of whatever width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from duelenv.experiments.watching.looks import CellLook, Look
from duelenv.ground.terminal import printable

__all__ = ["render", "sparkline"]

_BARS: Final = "▁▂▃▄▅▆▇█"
#: Values in a sparkline.
_POINTS: Final = 12
#: What matters most while a run goes on stands first.
_ORDER: Final = ("failed", "stopped", "running", "not begun", "finished")
_STYLES: Final = {"failed": "red", "stopped": "yellow", "running": "green", "not begun": "dim", "finished": "dim"}
#: Lines around the cells.
_AROUND: Final = 6


class _Column(NamedTuple):
    """A column, and from which width of the terminal on it is shown."""

    title: str
    from_width: int
    right: bool
    text: Callable[[CellLook, bool], str]


def render(look: Look, console: Console, *, cut: bool = False) -> RenderableType:
    """Draw the table of the cells, what failed or stopped and why, and the totals.

    Args:
        look: The run.
        console: Where it is going to be shown.
        cut: Whether to show no more cells than it has lines for.
    """
    plain = console.options.ascii_only
    shown, left_out = list(look.cells), 0
    most = max(console.height - _AROUND, 1)
    if cut and len(shown) > most:
        shown = sorted(shown, key=lambda cell: _ORDER.index(cell.state.state))[:most]
        left_out = len(look.cells) - len(shown)
    columns = [column for column in _COLUMNS if console.width >= column.from_width]
    overflow: Any = "crop" if plain else "ellipsis"
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, overflow=overflow)
    table.add_column("state", no_wrap=True, overflow=overflow, min_width=9)
    for cell in shown:
        words = [Text(printable(column.text(cell, plain))) for column in columns]
        table.add_row(*words, Text(_state(cell, people=look.people), style=_style(cell)))
    reasons = [
        Text(printable(f"{cell.state.cell.name}: {cell.state.reason}"), overflow="fold")
        for cell in shown
        if cell.state.reason
    ]
    rest = [Text(f"and {left_out} more cells", style="dim")] if left_out else []
    title = Text(printable(look.config.name), style="bold")
    return Group(title, table, *rest, *reasons, Text(_totals(look), overflow="fold"))


def sparkline(values: Sequence[float]) -> str:
    """Draw the last values as bars between the least and the largest of them; nothing for fewer than two."""
    last = values[-_POINTS:]
    if len(last) < 2:
        return ""
    low, high = min(last), max(last)
    if high == low:
        return _BARS[0] * len(last)
    return "".join(_BARS[min(int((value - low) / (high - low) * len(_BARS)), len(_BARS) - 1)] for value in last)


def _rounds(cell: CellLook, plain: bool) -> str:
    standing = cell.state.standing
    return "" if standing is None else f"{standing.rounds:,}/{standing.horizon:,}"


def _labels(cell: CellLook, plain: bool) -> str:
    labels = cell.state.standing.labels if cell.state.standing is not None else None
    return "" if labels is None else f"{labels:,}"


def _figure(cell: CellLook, plain: bool) -> str:
    figure = cell.state.standing.figure if cell.state.standing is not None else None
    return "" if figure is None else f"{figure[0]} {figure[1]}"


def _curve(cell: CellLook, plain: bool) -> str:
    if plain:
        return " ".join(f"{value:.3g}" for value in cell.values[-2:])
    return sparkline(cell.values)


def _rate(cell: CellLook, plain: bool) -> str:
    standing = cell.state.standing
    return "" if cell.state.state != "running" or standing is None or not standing.rate else f"{standing.rate:.3g}"


def _left(cell: CellLook, plain: bool) -> str:
    seconds = cell.seconds_left
    if seconds is None:
        return ""
    minutes, hours = seconds / 60.0, seconds / 3600.0
    if minutes < 1.0:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 1.0 else f"{hours:.1f} h" if hours < 48.0 else f"{hours / 24.0:.0f} days"


_COLUMNS: Final = (
    _Column("cell", 0, False, lambda cell, plain: cell.state.cell.name),
    _Column("rounds", 0, True, _rounds),
    _Column("labels", 50, True, _labels),
    _Column("now", 70, False, _figure),
    _Column("", 90, False, _curve),
    _Column("rounds/s", 100, True, _rate),
    _Column("left", 60, True, _left),
)


def _state(cell: CellLook, *, people: bool) -> str:
    if cell.waiting:
        return f"waiting for {'people' if people else 'answers'} ({cell.waiting:,} open)"
    return cell.state.state


def _style(cell: CellLook) -> str:
    return "yellow" if cell.waiting else _STYLES[cell.state.state]


def _totals(look: Look) -> str:
    """Write what all cells have come to together."""
    states = [cell.state.state for cell in look.cells]
    others = [f"{states.count(state)} {state}" for state in _ORDER if state != "finished" and state in states]
    parts = [", ".join([f"{states.count('finished')} of {len(states)} cells finished", *others])]
    labels = sum(cell.state.standing.labels or 0 for cell in look.cells if cell.state.standing is not None)
    limit = "" if look.config.budget.run is None else f" ('budget.run' {look.config.budget.run:,})"
    parts.append(f"{labels:,} labels{limit}")
    ledgers = [cell.counts for cell in look.cells if cell.counts is not None]
    asked, answered = sum(one.asked for one in ledgers), sum(one.answered for one in ledgers)
    if asked:  # a world that knows every answer asks nobody
        queries = f"{asked:,} asked, {answered:,} answered"
        evaluations = sum(one.evaluations for one in ledgers)
        parts.append(queries + (f", {evaluations:,} to evaluate" if evaluations else ""))
    if look.spent is not None:
        for value, limit_of, kind in (
            (f"{look.spent.tokens:,}", look.config.budget.tokens, "tokens"),
            (f"{look.spent.money:,.6g}", look.config.budget.money, "in money"),
        ):
            parts.append(f"{value}{'' if limit_of is None else f' of {limit_of:,}'} {kind}")
    return "; ".join(parts)
