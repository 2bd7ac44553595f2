r"""What the recommendations of an agent are worth, out of duels that another agent chose.

The value is a win rate. In a context x with K candidates the target recommends candidate a with probability pi(a | x);
its opponent b is uniform over the other K - 1. With P(a, b | x) the probability that a is preferred,

    V(pi) = E_x sum_a pi(a | x) 1 / (K - 1) sum_{b != a} P(a, b | x),

the mean Borda score of what is recommended: 1/2 for one that recommends at random, and the answer to "how often is its
recommendation preferred to another candidate". It needs no utility and no link.

A logged duel of i and j with the label y says something of both, provided that the order of the two does not matter:
1 - y is a label of (j, i). With q the probability that the two were played in either order, and the weights
w1 = pi(i) / ((K - 1) q) and w2 = pi(j) / ((K - 1) q),

    IPS    mean of w1 y + w2 (1 - y)                                          (Horvitz and Thompson 1952)
    SNIPS  the same, divided by the mean of w1 + w2                           (Swaminathan and Joachims 2015)
    DR     mean of V_m(x) + w1 (y - m(i, j)) + w2 (1 - y - m(j, i))           (Dudik, Langford and Li 2011)
    model  mean of V_m(x), the value if the model m of P were right

IPS and DR are unbiased where every two candidates of which the target may recommend one had q > 0, whatever m; the
mean of w1 + w2 is then 1 in expectation, which is how a log that does not cover the target is found out. The model is
cross-fitted (Chernozhukov et al. 2018): rounds are predicted by a model of other rounds, so that intervals hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.offline.log import DuelLog
from duelenv.experiments.offline.outcomes import Fit, bradley_terry, cross_fitted
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["INTERVALS", "Estimate", "Settings", "estimate", "mean_estimate", "weights"]

Float64 = NDArray[np.float64]
INTERVALS = ("normal", "bootstrap")

#: Below so many effective rounds an interval is a rough guess.
FEW = 100
#: Standard errors from 1 at which a mean weight says that the log does not cover the target. Large weights are rare, so
#: that a mean without them looks surer than it is: at 3.3 one log in 300 was refused that covered it.
_UNCOVERED = 5.0


@dataclass(frozen=True)
class Settings:
    """How values are estimated.

    Attributes:
        clip: Largest weight; None for no limit. Larger ones are set to it. IPS is then too small, by at most what is
            cut off the mean weight, and DR is off by at most that, upwards or downwards; SNIPS has no such bound.
        interval: "normal", the mean +- z deviations (of SNIPS by the delta method); "bootstrap", percentiles of
            resampled rounds.
        confidence: Of the intervals.
        folds: Of the cross-fitted model, at least 2.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        UserError: A value out of range.
    """

    clip: float | None = None
    interval: str = "normal"
    confidence: float = 0.95
    folds: int = 5
    resamples: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clip is not None:
            checks.number("clip", self.clip, above=0.0)
        checks.one_of("interval", self.interval, INTERVALS)
        checks.number("confidence", self.confidence, above=0.0, below=1.0)
        checks.integer("folds", self.folds, low=2)
        checks.integer("resamples", self.resamples, low=100)
        checks.integer("seed", self.seed, low=0)


@dataclass(frozen=True)
class Estimate:
    """An estimated value.

    Attributes:
        name: Of the estimator.
        value: The estimate.
        low: End of its interval.
        high: The other end.
        rounds: Rounds with a label that it is made of.
        effective: (sum w)^2 / sum w^2, as many equally weighted rounds as these are worth (Kong 1992).
        bias: At most so far off in expectation, since weights were clipped; NaN where no bound is known.
    """

    name: str
    value: float
    low: float
    high: float
    rounds: int
    effective: float
    bias: float = 0.0

    @property
    def caution(self) -> str | None:
        """What speaks against it, in words."""
        if self.effective < FEW:
            return f"{self.effective:.0f} effective rounds are few: the interval may be too short"
        return None


def weights(log: DuelLog, target: Float64) -> tuple[Float64, Float64]:
    """Return the weights w1 of the first and w2 of the second of every logged pair, float64 [T] each.

    Args:
        log: T rounds.
        target: pi, the probability with which each candidate is recommended, float64 [T, K].

    Raises:
        UserError: The probabilities of a round are negative, or do not add up to 1.
    """
    if target.shape != log.features.shape[:2] or (target < 0).any() or not np.allclose(target.sum(axis=1), 1.0):
        raise UserError(
            f"the target has probabilities of shape {target.shape}, expected {log.features.shape[:2]}, in every round "
            "not negative and with a sum of 1; give the probability with which each candidate is recommended"
        )
    rows = np.arange(len(log))
    scale = (log.pairs[:, 0] != log.pairs[:, 1]) / ((log.num_candidates - 1) * log.propensities)
    return target[rows, log.pairs[:, 0]] * scale, target[rows, log.pairs[:, 1]] * scale


def estimate(
    log: DuelLog, target: Float64, settings: Settings | None = None, *, fit: Fit = bradley_terry
) -> list[Estimate]:
    """Estimate V(pi) by IPS, SNIPS, DR and the model.

    Args:
        log: T rounds; those without a label are left out.
        target: pi, float64 [T, K], chosen without looking at the labels of these rounds.
        settings: See `Settings`.
        fit: Makes the model of P(i, j) from duels.

    Raises:
        UserError: Fewer than two rounds with a label for each fold, or a log that does not cover the target.
    """
    settings = settings or Settings()
    known = ~np.isnan(log.labels)
    log, target = log.take(known), np.asarray(target, np.float64)[known]
    if len(log) < 2 * settings.folds:
        raise UserError(
            f"{len(log)} rounds have a label, expected at least {2 * settings.folds} for {settings.folds} folds; give "
            "a longer log"
        )
    first, second = weights(log, target)
    _check_coverage(first + second)
    cut = 0.0
    if settings.clip is not None:
        excess = np.maximum(first - settings.clip, 0.0) + np.maximum(second - settings.clip, 0.0)
        cut = float(excess.mean())
        first, second = np.minimum(first, settings.clip), np.minimum(second, settings.clip)
    labels, whole = log.labels, first + second
    predicted = cross_fitted(log, settings.folds, fit)  # [T, K, K]
    rows, (i, j) = np.arange(len(log)), log.pairs.T
    borda = (predicted.sum(axis=2) - np.diagonal(predicted, axis1=1, axis2=2)) / (log.num_candidates - 1)
    modelled = (target * borda).sum(axis=1)
    won = first * labels + second * (1.0 - labels)
    residual = first * (labels - predicted[rows, i, j]) + second * (1.0 - labels - predicted[rows, j, i])
    effective = float(whole.sum() ** 2 / (whole**2).sum()) if whole.any() else 0.0

    def made(name: str, value: float, ends: tuple[float, float], bias: float = 0.0, of: float = effective) -> Estimate:
        return Estimate(name, value, *ends, len(log), of, bias)

    estimates = []
    for name, terms, bias in (("IPS", won, cut), ("DR", modelled + residual, cut)):
        estimates.append(made(name, float(terms.mean()), _interval(_mean, (terms,), settings), bias))
    ratio = float(won.sum() / whole.sum()) if whole.any() else math.nan
    ends = _interval(_ratio, (won, whole), settings)
    estimates.insert(1, made("SNIPS", ratio, ends, math.nan if cut else 0.0))
    ends = _interval(_mean, (modelled,), settings)
    return [*estimates, made("model", float(modelled.mean()), ends, math.nan, float(len(log)))]


def mean_estimate(name: str, terms: Float64, settings: Settings, effective: float | None = None) -> Estimate:
    """Return the mean of one number a round as an `Estimate`; NaN where there are none."""
    if not len(terms):
        return Estimate(name, math.nan, math.nan, math.nan, 0, 0.0)
    ends = _interval(_mean, (terms,), settings)
    return Estimate(name, float(terms.mean()), *ends, len(terms), len(terms) if effective is None else effective)


def _check_coverage(whole: Float64) -> None:
    error = whole.std(ddof=1) / np.sqrt(len(whole))
    off = abs(whole.mean() - 1.0)
    if off > max(_UNCOVERED * error, 1e-9):
        raise UserError(
            f"the weights have the mean {whole.mean():.3f}, which is not 1 within its error of {error:.3f}, so that "
            "the propensities are wrong or the log does not cover what the target recommends; check the propensities, "
            "or log with a policy that may play every pair"
        )


def _mean(values: Float64, axis: int = -1) -> Float64:
    mean: Float64 = values.mean(axis=axis)
    return mean


def _ratio(won: Float64, whole: Float64, axis: int = -1) -> Float64:
    ratio: Float64 = won.sum(axis=axis) / whole.sum(axis=axis)
    return ratio


def _interval(statistic: Callable[..., Float64], terms: tuple[Float64, ...], settings: Settings) -> tuple[float, float]:
    """Find the ends of the interval of a mean, or of the ratio of two."""
    from scipy import stats

    if len(terms[0]) < 2:
        return math.nan, math.nan
    if settings.interval == "bootstrap":
        found = stats.bootstrap(
            terms,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=settings.resamples,
            batch=max(1, 2**22 // len(terms[0])),
            confidence_level=settings.confidence,
            method="percentile",
            rng=np.random.default_rng(settings.seed),
        )
        return float(found.confidence_interval.low), float(found.confidence_interval.high)
    value = float(statistic(*terms))
    # By the delta method the ratio of two means varies as the mean of (won - ratio w) / mean w.
    varying = terms[0] if len(terms) == 1 else (terms[0] - value * terms[1]) / terms[1].mean()
    half = float(stats.norm.isf((1 - settings.confidence) / 2) * varying.std(ddof=1) / np.sqrt(len(varying)))
    return value - half, value + half
