"""Who labelled how much, how fast and on which side, and how far people agree."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duelenv.ground.errors import UserError
from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.figures import Said, said
from duelenv.oracles.people.verdicts import Verdict

_LEFT = (Verdict.LEFT, Verdict.SLIGHTLY_LEFT)
_RIGHT = (Verdict.RIGHT, Verdict.SLIGHTLY_RIGHT)


@dataclass(frozen=True)
class OfOne:
    """What one annotator did.

    Attributes:
        name: Who.
        answers: How many answers they gave.
        ties: How many of these were ties.
        declined: To how many they said that there is no answer.
        left: Share of their decided answers for the response on the left; 0.5 on average for whoever does not care for
            the side. None without one.
        seconds: Median time of an answer; None where it is not known.
    """

    name: str
    answers: int
    ties: int
    declined: int
    left: float | None
    seconds: float | None


@dataclass(frozen=True)
class Overview:
    """What all annotators did.

    Attributes:
        people: Of each.
        shared: Questions with answers of several people.
        alpha: Krippendorff's alpha of these; None where it is not defined.
    """

    people: Sequence[OfOne]
    shared: int
    alpha: float | None


def overview(desk: Desk) -> Overview:
    """Look at all answers that were not taken back."""
    answers = said(desk)
    by_name: dict[str, list[Said]] = defaultdict(list)
    for one in answers:
        by_name[one.annotator].append(one)
    values = _values(answers)
    return Overview(
        [_of_one(name, by_name[name]) for name in sorted(by_name)],
        sum(len(row) > 1 for row in values.values()),
        alpha_of(values),
    )


def _of_one(name: str, answers: Sequence[Said]) -> OfOne:
    lefts, rights = (sum(one.verdict in side for one in answers) for side in (_LEFT, _RIGHT))
    times = [one.seconds for one in answers if one.seconds is not None]
    return OfOne(
        name=name,
        answers=len(answers),
        ties=sum(one.verdict is Verdict.TIE for one in answers),
        declined=sum(one.verdict is Verdict.DECLINE for one in answers),
        left=lefts / (lefts + rights) if lefts + rights else None,
        seconds=statistics.median(times) if times else None,
    )


def _values(answers: Sequence[Said]) -> dict[int, dict[str, float]]:
    """Collect labels by question and annotator."""
    values: dict[int, dict[str, float]] = defaultdict(dict)
    for one in answers:
        if one.value is not None:
            values[one.question][one.annotator] = one.value
    return values


def alpha_of(values: dict[int, dict[str, float]]) -> float | None:
    """Return Krippendorff's alpha of labels in [0, 1], ordinal: 1 for full agreement, 0 for what chance gives.

    K. Krippendorff, Content Analysis (2004), chapter 11. Which response is called the first is fixed for each question,
    so that agreement does not depend on the order in which somebody saw them.

    Args:
        values: Labels by question and annotator.

    Returns:
        None where no question has two labels, or where all labels are equal, for which it is not defined.
    """
    shared = [row for row in values.values() if len(row) > 1]
    if len({value for row in shared for value in row.values()}) < 2:
        return None
    try:
        import krippendorff
    except ImportError as error:
        raise UserError("agreement needs a package that is missing; pip install 'duelenv[web]'") from error

    names = sorted({name for row in shared for name in row})
    table = np.array([[row.get(name, math.nan) for row in shared] for name in names])
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))
