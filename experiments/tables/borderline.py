"""Verdicts on a family of differences, and which of them hang on a single seed: without it they would be the other.

The delete-one jackknife (Efron and Stein 1981, Ann. Statist. 9) of the verdict itself: each seed is left out of all
differences at once, as though the run had not played it, and what they show is found anew, correction included. What
turns then may also turn with another processor, whose digits are other draws of the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.tables.statistics import LEVEL, Interval, corrected, holm, mean_interval

__all__ = ["BORDERLINE", "FEW", "borderline_caption", "judged", "judged_alone", "marks_of"]

#: How a mark begins.
BORDERLINE: Final = "borderline"

#: How the mark of a verdict of few seeds begins, and from how many on there is none. With four, half a t-interval is
#: 3.2 standard errors, and 2.3 with nine: what most runs of two to four seeds say is that they are too few.
FEW: Final = "of only"
_ENOUGH: Final = 5

#: A sum of squares below this share of what it is the rest of is rounding, which may even be negative.
_ROUNDING = 1e-12
#: So many seeds are named, of more only their number is told.
_NAMED = 3


def judged(family: Sequence[Mapping[int, float] | None]) -> list[Interval | None]:
    """Return the interval of each difference, what it shows in its family, and without which seeds that would turn.

    Args:
        family: Paired differences by seed of what is compared with one baseline, see `paired`; None where nothing is
            compared. Those of fewer than two seeds are no members.

    Returns:
        As many, in the same order, with `adjusted` p-values and `turns_without`.
    """
    found = corrected([None if one is None else mean_interval(list(one.values())) for one in family])
    members = [place for place, one in enumerate(found) if one is not None and one.seeds > 1]
    if not members:
        return found
    values = [
        {seed: value for seed, value in (family[place] or {}).items() if not np.isnan(value)} for place in members
    ]
    seeds = sorted({seed for one in values for seed in one})
    left_out = np.stack([_p_values_without(one, seeds) for one in values], axis=1)
    signs = np.stack([_signs_without(one, seeds) for one in values], axis=1)
    turns: list[list[int]] = [[] for _ in members]
    for row, seed in enumerate(seeds):
        known = np.flatnonzero(~np.isnan(left_out[row]))
        shown = np.zeros(len(members))
        significant = np.array(holm(left_out[row][known].tolist())) < LEVEL
        shown[known] = np.where(significant, signs[row][known], 0.0)
        for number, place in enumerate(members):
            before = found[place]
            assert before is not None
            if shown[number] != (np.sign(before.mean) if before.shows_difference else 0.0):
                turns[number].append(seed)
    for number, place in enumerate(members):
        before = found[place]
        assert before is not None
        found[place] = replace(before, turns_without=tuple(turns[number]))
    return found


def judged_alone(differences: Mapping[int, float]) -> Interval:
    """Return the interval of a difference that belongs to no family, and without which seeds its verdict would turn."""
    (found,) = judged([differences])
    assert found is not None
    return replace(found, adjusted=None)


def borderline_of(difference: Interval | None) -> str:
    """Say without which seeds a verdict would be the other; empty where no single one turns it."""
    turning = () if difference is None else difference.turns_without
    if difference is None or not turning:
        return ""
    if len(turning) <= _NAMED:
        named = ", ".join(str(seed) for seed in turning[:-1])
        which = f"seed {named} or {turning[-1]}" if named else f"seed {turning[-1]}"
    else:
        which = f"any one of {len(turning):,} of {difference.seeds:,} seeds"
    return f"{BORDERLINE}: turns without {which}"


def few_of(difference: Interval | None) -> str:
    """Say that a verdict is of few seeds, whatever it is; empty where there are enough, or too few for any."""
    return f"{FEW} {difference.seeds} seeds" if difference is not None and 1 < difference.seeds < _ENOUGH else ""


def marks_of(difference: Interval | None) -> str:
    """Say how far a verdict can be relied on; empty where there is nothing to say."""
    return "; ".join(mark for mark in (few_of(difference), borderline_of(difference)) if mark)


def borderline_caption(differences: Sequence[Interval | None]) -> str:
    """Say for a caption what a borderline verdict is; empty where there is none."""
    if not any(borderline_of(one) for one in differences):
        return ""
    return "; borderline: the verdict would be the other if that one seed had not been played"


def _p_values_without(values: Mapping[int, float], seeds: Sequence[int]) -> NDArray[np.float64]:
    """p-values of "the mean is 0" by Student's t without each of the seeds, [seeds]; NaN where one value is left."""
    from scipy import stats

    sample, out = _split(values, seeds)
    centred = sample - sample.mean()
    squares = float((centred**2).sum())
    count = np.where(np.isnan(out), len(sample), len(sample) - 1)
    gap = np.nan_to_num(out - sample.mean())  # 0 where the seed has no part in it
    rest = squares - gap**2 * len(sample) / np.maximum(len(sample) - 1, 1)
    rest[rest <= _ROUNDING * (sample**2).sum()] = 0.0
    mean = _means_without(sample, out)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / np.sqrt(rest / (count - 1) / count)
    t[(rest == 0.0) & (mean == 0.0)] = 0.0
    p_values: NDArray[np.float64] = 2.0 * np.asarray(stats.t.sf(t, count - 1))  # NaN without a degree of freedom
    return p_values


def _signs_without(values: Mapping[int, float], seeds: Sequence[int]) -> NDArray[np.float64]:
    """Find the signs of the means without each of the seeds, [seeds]."""
    return np.sign(_means_without(*_split(values, seeds)))


def _means_without(sample: NDArray[np.float64], out: NDArray[np.float64]) -> NDArray[np.float64]:
    count = np.where(np.isnan(out), len(sample), len(sample) - 1)
    mean: NDArray[np.float64] = (sample.sum() - np.nan_to_num(out)) / count
    return mean


def _split(values: Mapping[int, float], seeds: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All values of a difference, and for each seed the one that is left out with it, NaN where there is none."""
    return np.array(list(values.values())), np.array([values.get(seed, np.nan) for seed in seeds])
