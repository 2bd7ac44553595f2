"""What may be claimed of several comparisons at once, and how often a difference is found where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duelenv.experiments.efficiency.resampling import Arm, Comparison, compare

__all__ = ["FEWER", "MORE", "NOT_SHOWN", "NullCheck", "holm", "null_check", "verdicts"]

FEWER, MORE, NOT_SHOWN = "fewer labels", "more labels", "not shown"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false claim among them keeps its level (Holm 1979).

    Args:
        p_values: One for each hypothesis of the family, in any order.

    Returns:
        As many, in the same order: the k-th smallest times the number of those not smaller, never less than one before,
        at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda which: p_values[which])
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, which in enumerate(order):
        least = max(least, min((len(order) - rank) * p_values[which], 1.0))
        adjusted[which] = least
    return adjusted


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
