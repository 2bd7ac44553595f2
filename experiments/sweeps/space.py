"""What a sweep tries: values of a setting by name, and how they are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from duelenv.ground import checks
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream

__all__ = ["RANGES", "Choice", "Range", "Space", "read_space"]

RANGES: Final = ("uniform", "log_uniform", "int")


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely as the others."""

    values: tuple[Any, ...]

    def at(self, uniform: float) -> Any:
        """Find the value that a uniform number in [0, 1) stands for."""
        return self.values[int(uniform * len(self.values))]


@dataclass(frozen=True)
class Range:
    """A number between two: "uniform", "log_uniform" (its logarithm is uniform), or "int", both ends included."""

    kind: str
    low: float
    high: float

    def at(self, uniform: float) -> Any:
        """Find the value that a uniform number in [0, 1) stands for."""
        if self.kind == "int":
            return int(self.low) + int(uniform * (int(self.high) - int(self.low) + 1))
        if self.kind == "log_uniform":
            return math.exp(math.log(self.low) + uniform * (math.log(self.high) - math.log(self.low)))
        return self.low + uniform * (self.high - self.low)


@dataclass(frozen=True)
class Space:
    """Settings by dotted name, each with what it may be."""

    axes: Mapping[str, Choice | Range]

    def grid(self) -> list[dict[str, Any]]:
        """List all combinations, the last setting moving fastest.

        Raises:
            UserError: A setting is a range.
        """
        for key, axis in self.axes.items():
            if isinstance(axis, Range):
                raise UserError(f"'search' is 'grid', and {key!r} is a range: list its values, or set search=random")
        values = [axis.values for axis in self.axes.values() if isinstance(axis, Choice)]
        return [dict(zip(self.axes, point, strict=True)) for point in itertools.product(*values)]

    def draw(self, seed: int, trial: int) -> dict[str, Any]:
        """Draw the values of one trial of a random search: the same whatever the number of trials."""
        uniforms: np.ndarray[Any, Any] = stream(seed, "experiments/sweep", trial).random(len(self.axes))
        return {key: axis.at(float(u)) for (key, axis), u in zip(self.axes.items(), uniforms, strict=True)}


def read_space(raw: object) -> Space:
    """Check `settings` of a sweep: a list of values, or `{log_uniform: [low, high]}` and the like.

    Raises:
        UserError: What stands there is neither.
    """
    given = checks.mapping("'sweep.settings'", raw)
    if not given:
        raise UserError(
            "'sweep.settings' is empty: name settings and what they may be, as in agents.real.gamma: [1, 2]"
        )
    return Space({key: _axis(key, value) for key, value in given.items()})


def _axis(key: str, raw: object) -> Choice | Range:
    if isinstance(raw, list):
        if not raw:
            raise UserError(f"'sweep.settings' has no value for {key!r}: list some")
        return Choice(tuple(raw))
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise UserError(f"{key!r} in 'sweep.settings' is {raw!r}, expected a list of values or {{log_uniform: [a, b]}}")
    kind, ends = next(iter(raw.items()))
    if kind not in RANGES:
        raise UserError(f"{key!r} in 'sweep.settings' is of kind {kind!r}: {choices(kind, RANGES)}")
    if not isinstance(ends, list) or len(ends) != 2:
        raise UserError(f"{key!r} in 'sweep.settings' has the range {ends!r}, expected [low, high]")
    name = f"'sweep.settings.{key}'"
    low, high = (checks.integer(name, end, low=-(2**53)) if kind == "int" else checks.number(name, end) for end in ends)
    if not low < high or (kind == "log_uniform" and low <= 0):
        raise UserError(f"{key!r} in 'sweep.settings' has the range {ends!r}, expected low < high, above 0 for a log")
    return Range(kind, low, high)
