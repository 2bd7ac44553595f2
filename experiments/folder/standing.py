"""How far a cell has come, as it says itself in a small file: for bars, `duelenv watch` and the report."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Standing", "read_standing", "write_standing"]

#: More rounds or labels than any run has, and few enough to calculate with.
_MOST: Final = 2**53


@dataclass(frozen=True)
class Standing:
    """How far a cell has come."""

    rounds: int
    horizon: int
    figure: tuple[str, str] | None = None
    """Name and value of the figure that matters, where there is one yet."""
    labels: int | None = None
    """That all seeds of the cell have asked for together; None in files that do not say."""
    rate: float | None = None
    """Rounds a second since this start of the cell, with evaluations and with waiting for answers."""


def write_standing(path: Path, *, rounds: int, horizon: int, figure: str, labels: int, rate: float | None) -> None:
    """Write the file. Where the disk refuses, people see what it said before: it is only looked at."""
    content = {"rounds": rounds, "horizon": horizon, "figure": figure, "labels": labels, "rate": rate}
    temporary = path.with_suffix(".tmp")
    with suppress(OSError):  # it need not be synced either
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(path)


def read_standing(path: Path) -> Standing | None:
    """Read what the file says, or None where it is absent, half-written or no such file.

    It is only shown, by a thread beside the run or by another process: whatever is wrong with it is no reason to end.
    """
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(progress, dict):
        return None
    rounds, horizon = _count(progress.get("rounds")), _count(progress.get("horizon"))
    if rounds is None or horizon is None:
        return None
    figure = progress.get("figure")
    words = figure.split() if isinstance(figure, str) else []
    return Standing(
        rounds,
        horizon,
        (words[0], words[1]) if len(words) == 2 else None,
        _count(progress.get("labels")),
        _rate(progress.get("rate")),
    )


def _count(value: Any) -> int | None:
    """Read a number of rounds or labels, or None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
        return value
    return None


def _rate(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST and math.isfinite(value):
        return float(value)
    return None
