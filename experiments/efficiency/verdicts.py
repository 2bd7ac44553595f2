"""What may be claimed of several comparisons at once, and how often a difference is found where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duelenv.experiments.efficiency.resampling import Arm, Comparison, compare
from duelenv.experiments.tables.statistics import holm

__all__ = ["FEWER", "MORE", "NOT_SHOWN", "NullCheck", "null_check", "verdicts"]

FEWER, MORE, NOT_SHOWN = "fewer labels", "more labels", "not shown"


def verdicts(comparisons: Sequence[Comparison], level: float = 0.05) -> list[str]:
    """What the first figure of each comparison shows, `holm` over all of them.

    Args:
        comparisons: The whole family: every arm that could have been claimed to be better.
        level: Chance of a false claim among them.

    Returns:
        `FEWER`, `MORE` or `NOT_SHOWN` of each.
    """
    adjusted = holm([one.log_ratio.p_value for one in comparisons])
    found = []
    for one, p_value in zip(comparisons, adjusted, strict=True):
        shown = p_value < level and one.log_ratio.shows_difference
        found.append((FEWER if one.log_ratio.high < 0 else MORE) if shown else NOT_SHOWN)
    return found


@dataclass(frozen=True)
class NullCheck:
    """An arm against itself, through all of the protocol."""

    trials: int
    not_shown: float
    """Share of trials that say so; a protocol that keeps its word has about its confidence here."""


def null_check(
    baseline: Arm, horizon: float, *, share: float = 0.9, trials: int = 200, draws: int = 1000, seed: int = 0
) -> NullCheck:
    """Split the seeds of one arm in two at random, compare the halves, and count how often no difference is shown.

    Splits of the same seeds hang together, so that the share says less than as many trials on fresh seeds would.

    Args:
        baseline: `passive`, measured until it is flat, of at least 4 seeds.
        horizon: Labels at which halves are compared.
        share: Of the way from start to plateau that the target lies at.
        trials: Splits.
        draws: Of the bootstrap in each.
        seed: Of splits and resampling.
    """
    generator = np.random.default_rng(seed)
    quiet = 0
    for trial in range(trials):
        order = generator.permutation(baseline.seeds)
        half = baseline.seeds // 2
        found = compare(
            baseline.of(order[:half]),
            baseline.of(order[half : 2 * half]),
            horizon,
            share=share,
            draws=draws,
            seed=seed + 1 + trial,
        )
        quiet += not found.log_ratio.shows_difference
    return NullCheck(trials, quiet / trials)
