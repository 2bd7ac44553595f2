"""Two arms compared by an unpaired bootstrap over seeds: labels to a target, area, KL at the target, regret.

Pairing by seed buys nothing where the policy is alive: after the first update two agents meet different responses. So
the seeds of each arm are drawn by themselves. The target is a figure of `passive`'s seeds like any other, and is
computed anew in each draw, as is `passive`'s own crossing: a target taken for granted makes intervals too short.

Not `scipy.stats.bootstrap`: with few seeds the quantiles of `bootstrap_tail` cover better than all of its methods, and
here draws of several figures belong together, and may be infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.tables.crossing import reached, target_of
from duelenv.experiments.tables.statistics import area_under_curve, bootstrap_tail

__all__ = ["DRAWS", "Arm", "Comparison", "Estimate", "compare", "share_reaching"]

#: Of the bootstrap.
DRAWS: Final = 10_000


@dataclass(frozen=True)
class Arm:
    """What was measured of an agent, one row a seed.

    Attributes:
        labels: Labels at each evaluation, increasing, [T].
        height: What is to be reached, [S, T], such as the win rate.
        kl: KL to the start policy in nats, [S, T].
        regret: Cumulative regret, [S, T].
    """

    labels: NDArray[np.float64]
    height: NDArray[np.float64]
    kl: NDArray[np.float64]
    regret: NDArray[np.float64]

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.height)

    def until(self, horizon: float) -> Arm:
        """Keep the evaluations up to a number of labels."""
        kept = self.labels <= horizon
        return Arm(self.labels[kept], self.height[:, kept], self.kl[:, kept], self.regret[:, kept])

    def of(self, seeds: NDArray[np.int64]) -> Arm:
        """Take some of the seeds, by row."""
        return Arm(self.labels, self.height[seeds], self.kl[seeds], self.regret[seeds])


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap interval; bounds may be infinite, and are NaN where there is nothing to estimate."""

    value: float
    """Of the seeds as they are."""
    low: float
    high: float
    p_value: float = float("nan")
    """Two-sided, of no difference: the interval of coverage 1 - p has 0 at its end. NaN for what is no difference."""

    @property
    def shows_difference(self) -> bool:
        """Whether 0 lies outside the interval."""
        return bool(self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """An arm against `passive`, up to a number of labels."""

    target: Estimate
    """The height to reach."""
    labels: Estimate
    """Labels of the arm until it is reached; infinite where it never is."""
    baseline_labels: Estimate
    """The same of `passive`."""
    log_ratio: Estimate
    """ln(labels of the arm / labels of `passive`): the first figure. 0 where neither arrives in time."""
    never: float
    """Share of draws in which the arm does not arrive in time."""
    baseline_never: float
    """The same of `passive`."""
    area: Estimate
    """Mean height over all labels, difference to `passive`."""
    kl: Estimate
    """KL to the start where the target is reached, difference, over the draws in which both arrive."""
    regret: Estimate
    """Cumulative regret in the end, difference."""


def compare(
    arm: Arm,
    baseline: Arm,
    horizon: float,
    *,
    share: float = 0.9,
    draws: int = DRAWS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare an arm with `passive`.

    Args:
        arm: Measured up to `horizon` labels at least.
        baseline: `passive`, measured until it is flat. Where it crosses is looked for up to `horizon`, as of the arm: a
            fit over more evaluations would cross elsewhere. Only of draws that do not cross there the later crossing
            counts, so that the ratio is not 0 where it is known.
        horizon: Labels at which both are compared; both were evaluated there.
        share: Of the way from start to plateau that the target lies at.
        draws: Of the bootstrap.
        confidence: Coverage of the intervals.
        seed: Of the resampling.

    Raises:
        ValueError: An arm with fewer than two seeds, or one that was not evaluated at `horizon`.
    """
    for one in (arm, baseline):
        if one.seeds < 2 or horizon not in one.labels:
            raise ValueError(f"{one.seeds} seeds were evaluated at {one.labels.tolist()} labels, not {horizon}")
    own, near = arm.until(horizon), baseline.until(horizon)
    streams = np.random.default_rng(seed).spawn(2)
    own_shares, shares = _drawn(arm.seeds, draws, streams[0]), _drawn(baseline.seeds, draws, streams[1])
    target = target_of(baseline.labels, shares @ baseline.height, share)
    labels = reached(own.labels, own_shares @ own.height, target)
    in_time = reached(near.labels, shares @ near.height, target)
    kl = _at(own.labels, own_shares @ own.kl, labels) - _at(near.labels, shares @ near.kl, in_time)
    later = np.maximum(reached(baseline.labels, shares @ baseline.height, target), horizon)
    baseline_labels = np.where(np.isinf(in_time), later, in_time)
    seeds = min(arm.seeds, baseline.seeds)
    tail = bootstrap_tail(seeds, confidence)
    return Comparison(
        target=_estimate(target, tail),
        labels=_estimate(labels, tail),
        baseline_labels=_estimate(baseline_labels, tail),
        log_ratio=_difference(_log_ratio(labels, baseline_labels, horizon), tail, seeds),
        never=float(np.isinf(labels[1:]).mean()),
        baseline_never=float(np.isinf(in_time[1:]).mean()),
        area=_difference(own_shares @ _areas(own) - shares @ _areas(near), tail, seeds),
        kl=_difference(kl, tail, seeds),
        regret=_difference(own_shares @ own.regret[:, -1] - shares @ near.regret[:, -1], tail, seeds),
    )


def share_reaching(baseline: Arm, horizon: float, *, share: float = 0.9, draws: int = DRAWS, seed: int = 0) -> float:
    """Find the share of resamples in which `passive` reaches its own target within a number of labels.

    Args:
        baseline: Measured until it is flat.
        horizon: Labels.
        share: Of the way from start to plateau that the target lies at.
        draws: Of the bootstrap.
        seed: Of the resampling.
    """
    shares = _drawn(baseline.seeds, draws, np.random.default_rng(seed))[1:]
    near = baseline.until(horizon)
    target = target_of(baseline.labels, shares @ baseline.height, share)
    return float(np.isfinite(reached(near.labels, shares @ near.height, target)).mean())


def _drawn(seeds: int, draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw the weight of each seed in each draw, [1 + draws, seeds]; the first are those of the seeds as they are.

    So that all resampled means are one matrix product.
    """
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return np.concatenate([np.ones((1, seeds)), counts]) / seeds


def _log_ratio(labels: NDArray[np.float64], baseline: NDArray[np.float64], horizon: float) -> NDArray[np.float64]:
    """Take the log ratio of labels to a target, [D]; 0 where both begin there.

    And where neither arrives in time: of two that take longer than was looked, the faster one is not known.
    """
    equal = (labels == baseline) | (np.isinf(labels) & (baseline >= horizon))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 0.0, np.log(labels) - np.log(baseline))


def _areas(arm: Arm) -> NDArray[np.float64]:
    """Average the height of each seed's curve, [S]."""
    return np.array([area_under_curve(arm.labels, curve) for curve in arm.height])


def _at(labels: NDArray[np.float64], curves: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read curves [D, T] at one place each, [D], between evaluations by straight lines; NaN at infinity."""
    inside = np.clip(np.where(np.isinf(places), labels[-1], places), labels[0], labels[-1])
    after = np.clip(np.searchsorted(labels, inside), 1, len(labels) - 1)
    share = (inside - labels[after - 1]) / (labels[after] - labels[after - 1])
    row = np.arange(len(curves))
    read = curves[row, after - 1] * (1 - share) + curves[row, after] * share
    return np.asarray(np.where(np.isinf(places), np.nan, read))


def _estimate(drawn: NDArray[np.float64], tail: float, p_value: float = float("nan")) -> Estimate:
    """Take the first value, and quantiles of the others. Infinity stays among them; NaN, as of no value, does not."""
    known = drawn[1:][~np.isnan(drawn[1:])]
    if known.size == 0:
        return Estimate(float(drawn[0]), float("nan"), float("nan"), p_value)
    # Quantiles that are one of the draws: halfway between a number and infinity there is nothing.
    low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(drawn[0]), float(low), float(high), p_value)


def _difference(drawn: NDArray[np.float64], tail: float, seeds: int) -> Estimate:
    """Estimate what can be 0, with the p-value that inverts its interval."""
    from scipy import stats

    known = drawn[1:][~np.isnan(drawn[1:])]
    if known.size == 0:
        return _estimate(drawn, tail)
    beyond = min(int((known <= 0).sum()), int((known >= 0).sum())) + 1
    z = stats.norm.ppf(min(beyond / (known.size + 1), 0.5))
    p_value = 2 * stats.t.cdf(z / np.sqrt(seeds / (seeds - 1)), seeds - 1)
    return _estimate(drawn, tail, float(p_value))
