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
    """Say what the first figure of each comparison shows, `holm` over all of them.

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
    """Arms against themselves, through all of the protocol."""

    trials: int
    not_shown: tuple[float, ...]
    """Share of trials that say so, of each arm alone; a protocol that keeps its word has about its confidence here."""
    none_shown: float
    """Share of trials in which nothing is claimed of any arm, all of them being one family."""


def null_check(
    baselines: Sequence[tuple[Arm, float]],
    *,
    share: float = 0.9,
    trials: int = 200,
    draws: int = 1000,
    seed: int = 0,
) -> NullCheck:
    """Split the seeds of each arm in two at random, compare the halves, and count how often no difference is shown.

    Splits of the same seeds hang together, so that the share says less than as many trials on fresh seeds would.

    Args:
        baselines: `passive` in each world, measured until it is flat, of at least 4 seeds, and the labels at which its
            halves are compared.
        share: Of the way from start to plateau that the target lies at.
        trials: Splits.
        draws: Of the bootstrap in each.
        seed: Of splits and resampling.
    """
    # Each arm has streams of its own: another one beside it does not move its splits.
    generators = [np.random.default_rng([seed, number]) for number in range(len(baselines))]
    quiet = np.zeros((trials, len(baselines)), np.bool_)
    none = 0
    for trial in range(trials):
        found = [
            _halves_compared(arm, horizon, generator, share=share, draws=draws, seed=seed + 1 + trial)
            for (arm, horizon), generator in zip(baselines, generators, strict=True)
        ]
        quiet[trial] = [verdicts([one]) == [NOT_SHOWN] for one in found]
        none += all(verdict == NOT_SHOWN for verdict in verdicts(found))
    return NullCheck(trials, tuple(quiet.mean(axis=0).tolist()), none / trials)


def _halves_compared(
    arm: Arm, horizon: float, generator: np.random.Generator, *, share: float, draws: int, seed: int
) -> Comparison:
    order, half = generator.permutation(arm.seeds), arm.seeds // 2
    halves = arm.of(order[:half]), arm.of(order[half : 2 * half])
    return compare(*halves, horizon, share=share, draws=draws, seed=seed)
