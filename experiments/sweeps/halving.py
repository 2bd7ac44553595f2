"""Successive halving: many settings with few labels each, the better share of them with more, until few are left.

Jamieson and Talwalkar (2016, Algorithm 1), with the factor of Li et al. (2018, Hyperband): after each rung the best
1 / factor of the settings go on, and what they get in all grows by the factor, so that the last rung has everything.
Not for the race of a study, whose looks have seeds of their own; see `duelenv.experiments.efficiency.stages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from duelenv.ground import checks

__all__ = ["RESOURCES", "Halving", "Rung", "read_halving", "whole_rung"]

RESOURCES: Final = ("seeds", "labels")


class Rung(NamedTuple):
    """What is played before some settings are left behind.

    Attributes:
        trials: How many settings play.
        seeds: Which of the run's seeds they play now, by place: those from the first to before the last.
        labels: What each of them with each seed may ask for.
    """

    trials: int
    seeds: slice
    labels: int

    @property
    def spent(self) -> int:
        """Labels of the rung."""
        return self.trials * (self.seeds.stop - self.seeds.start) * self.labels


@dataclass(frozen=True)
class Halving:
    """How settings are left behind.

    Attributes:
        over: What grows. "seeds": each rung plays seeds that are new, and all so far judge it. "labels": each rung
            plays all seeds from the start, since what an agent does may depend on how many labels it will have.
        factor: By how much, and which share of the settings goes on, 1 / factor.
        least: Seeds, or labels of each seed, that no rung goes below.

    Raises:
        UserError: A value out of range.
    """

    over: str = "seeds"
    factor: int = 2
    least: int = 1

    def __post_init__(self) -> None:
        checks.one_of("sweep.halving.over", self.over, RESOURCES)
        checks.integer("'sweep.halving.factor'", self.factor, low=2)
        checks.integer("'sweep.halving.least'", self.least, low=1)

    def rungs(self, trials: int, seeds: int, labels: int) -> list[Rung]:
        """Return the rungs, at least one; the last has all seeds and labels.

        With n trials there are as many rungs as it takes until at most `factor` are left to be compared at the last,
        ceil(log n), but for those that `least` has no room for. Shares are rounded down.

        Args:
            trials: n, at least 1.
            seeds: Of the run.
            labels: Of each seed.
        """
        whole = seeds if self.over == "seeds" else labels
        steps = 1
        while self.factor**steps < trials and whole // self.factor**steps >= self.least:
            steps += 1
        shares = [whole // self.factor ** (steps - 1 - step) for step in range(steps)]
        rungs, before = [], 0
        for step, share in enumerate(shares):
            left = max(trials // self.factor**step, 1)
            if self.over == "seeds":
                rungs.append(Rung(left, slice(before, share), labels))
                before = share
            else:
                rungs.append(Rung(left, slice(0, seeds), share))
        return rungs


def whole_rung(trials: int, seeds: int, labels: int) -> list[Rung]:
    """Return what is played where nothing is left behind: all trials with everything."""
    return [Rung(trials, slice(0, seeds), labels)]


def read_halving(raw: object) -> Halving | None:
    """Read `seeds`, or `{over: labels, factor: 3, least: 20}`; None for none.

    Raises:
        UserError: Neither.
    """
    if raw is None:
        return None
    given: dict[str, Any] = {"over": raw} if isinstance(raw, str) else checks.mapping("'sweep.halving'", raw)
    checks.refuse_unknown("sweep.halving", given, ["over", "factor", "least"])
    return Halving(**given)
