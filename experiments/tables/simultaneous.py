"""Intervals of many differences at once, as wide as the procedure that judges them asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from duelenv.experiments.tables.statistics import Interval, t_quantile

__all__ = ["holm_intervals"]


#: Coverage of the given intervals, and of what a family says.
_CONFIDENCE: Final = 0.95


def holm_intervals(differences: Sequence[Interval | None]) -> list[Interval | None]:
    """Widen intervals of a family so that 0 lies outside exactly of those that Holm's procedure rejects.

    The k-th smallest of M p-values is held against alpha / (M - k + 1), and after the first that is not rejected all
    others against what that one was (Holm 1979): each interval has the coverage 1 minus the level it was held against.
    Each alone covers at least as often as an interval of 95 %. Together they say with 95 % which differences are not 0;
    that all of them hold the true sizes at once, only those of level alpha / M would say (Bonferroni).

    Args:
        differences: Intervals of 95 %, as `duelenv.experiments.tables.statistics.corrected` takes them; None,
            and those of fewer than two seeds, are no members.

    Returns:
        As many, in the same order; those that are no members are as they were.
    """
    members = [place for place, one in enumerate(differences) if one is not None and one.seeds > 1]
    members.sort(key=lambda place: _p_value(differences[place]))
    found, alpha = list(differences), 1.0 - _CONFIDENCE
    left, rejecting = len(members), True
    for place in members:
        one = differences[place]
        assert one is not None
        level = alpha / left
        half = one.half_width * t_quantile(one.seeds, 1.0 - level) / t_quantile(one.seeds, _CONFIDENCE)
        found[place] = replace(one, low=one.mean - half, high=one.mean + half)
        rejecting = rejecting and one.p_value < level
        left -= rejecting
    return found


def _p_value(difference: Interval | None) -> float:
    assert difference is not None
    return difference.p_value
