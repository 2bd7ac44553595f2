"""The comparisons of a run as Arrow tables with plain columns. No statistics: those are in `experiments.tables`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.borderline import marks_of
from duelenv.experiments.tables.comparison import comparison_table
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import RegretTable
from duelenv.ground import checks
from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from duelenv.experiments.tables.statistics import Interval

__all__ = ["FRAMES", "Frame", "as_frame", "check_frame", "comparisons", "finals", "regrets"]

Frame = Literal["arrow", "pandas"]
FRAMES: Final = ("arrow", "pandas")


def check_frame(frame: str) -> str:
    """Return the kind of table that is wanted.

    Raises:
        UserError: Another kind, or pandas where it is not installed.
    """
    checks.one_of("frame", frame, FRAMES)
    if frame == "pandas":
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise UserError(
                "frame='pandas' needs pandas, which is not installed: pip install 'duelenv[pandas]'"
            ) from error
    return frame


def as_frame(table: pa.Table, frame: str) -> Any:
    """Return a table in the kind that is wanted."""
    return table.to_pandas() if frame == "pandas" else table


def finals(results: Results) -> pa.Table:
    """Make a row for each agent as it ended: means over seeds of all metrics in tables, with 95 % t-intervals."""
    rows = []
    for group in group_agents(results):
        table = comparison_table(results, group)
        for line in table.lines:
            row: dict[str, Any] = {"world": group.title, "agent": line.agent, "seeds": line.primary.seeds}
            others = dict(zip(table.others, line.others, strict=True))
            for name, interval in ({table.primary: line.primary} | others).items():
                row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            row |= {
                "labels": line.labels.mean,
                "gradient_steps": line.gradient_steps.mean,
                "seconds": line.seconds.mean,
            }
            rows.append(row)
    return _table(rows)


def comparisons(results: Results) -> pa.Table:
    """Make a row for each agent but the baseline: its paired difference to that, at equal seeds, and what it shows."""
    rows = []
    for group in group_agents(results):
        table = comparison_table(results, group)
        for line in table.lines:
            if line.difference is None:
                continue
            shown = table.direction(line) if line.difference.shows_difference else line.verdict
            rows.append(
                {
                    "world": group.title,
                    "agent": line.agent,
                    "baseline": table.baseline,
                    "metric": table.primary,
                    **_interval("difference", line.difference),
                    "seeds": line.difference.seeds,
                    "p_value": line.difference.p_value,
                    "corrected_p_value": line.difference.adjusted,
                    "verdict": shown,
                    "turns_without": " ".join(str(seed) for seed in line.difference.turns_without),
                    "caution": marks_of(line.difference),
                }
            )
    return _table(rows, like=_COMPARISONS)


#: The columns of `comparisons`, for a run of one agent.
_COMPARISONS: Final = (
    *("world", "agent", "baseline", "metric", "difference", "difference_low", "difference_high", "seeds"),
    *("p_value", "corrected_p_value", "verdict", "turns_without", "caution"),
)


def regrets(table: RegretTable) -> pa.Table:
    """Make a row for each agent: its cumulative regret after the last round, and how that grows."""
    return _table(
        {
            "agent": line.agent,
            **_interval(table.primary, line.regret),
            "median": line.median,
            "percentile_95": line.tail,
            "slope": line.slope.slope,
            "slope_low": line.slope.low,
            "slope_high": line.slope.high,
            "simple_regret": line.simple_regret.mean,
            "microseconds": line.microseconds,
        }
        for line in table.lines
    )


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _table(rows: Iterable[Mapping[str, Any]], like: Iterable[str] = ()) -> pa.Table:
    """Return rows as a table: text, whole numbers and float64; null for what is not known."""
    import pyarrow as pa

    rows = list(rows)
    names = list(dict.fromkeys([*like, *(name for row in rows for name in row)]))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        numbers = any(isinstance(value, float) for value in values)
        columns[name] = pa.array(values, pa.float64(), from_pandas=True) if numbers else pa.array(values)
    return pa.table(columns)
