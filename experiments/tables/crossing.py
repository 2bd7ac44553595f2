"""When a learning curve has reached a level for good, and which level that should be. Numbers only, no files.

A mean over a dozen seeds wobbles by as much as agents differ, so that "stays above from here on" is never true of it:
two halves of the same seeds often call each other "never". A learning curve is taken to rise, and what is asked is when
the rising curve nearest to it (isotonic regression, least squares) crosses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.experiments.tables.statistics import Interval, mean_interval

__all__ = ["Plateau", "isotonic", "last_quarter", "plateau_of", "reached", "target_of"]

#: Curves that `isotonic` takes at a time: its work space is T * T numbers for each.
_AT_A_TIME = 500
#: Evaluations beyond which T * T operations for each curve take longer than a call.
_LONG = 32
#: The part of a curve, from its end, that has to be flat.
_LAST = 0.25


def isotonic(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit the rising curves nearest to `curves`, by least squares with equal weights.

    By the min-max formula fit_t = max_{a <= t} min_{b >= t} mean(y_a .. y_b) (Barlow et al. 1972, "Statistical
    inference under order restrictions", theorem 1.4), which does all curves at once, T * T operations each; long
    ones by SciPy, one after the other.

    Args:
        curves: float64 [..., T], without NaN.

    Returns:
        float64 [..., T], each not falling along T.
    """
    flat = curves.reshape(-1, curves.shape[-1])
    if flat.shape[1] > _LONG:
        from scipy import optimize

        rows = [optimize.isotonic_regression(curve).x for curve in flat]
        return np.array(rows, dtype=np.float64).reshape(curves.shape)
    fitted = [_isotonic(flat[start : start + _AT_A_TIME]) for start in range(0, len(flat), _AT_A_TIME)]
    return np.concatenate(fitted).reshape(curves.shape) if fitted else curves.copy()


def _isotonic(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    length = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), curves.cumsum(axis=1)], axis=1)
    first, last = np.arange(length)[:, np.newaxis], np.arange(length)[np.newaxis]
    means = (sums[:, np.newaxis, 1:] - sums[:, :-1, np.newaxis]) / np.maximum(last - first + 1, 1)  # [B, a, b]
    means[:, last < first] = np.inf
    least = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]  # min over b >= t, [B, a, t]
    least[:, last < first] = -np.inf
    return np.asarray(least.max(axis=1))


def reached(labels: ArrayLike, curves: NDArray[np.float64], targets: ArrayLike) -> NDArray[np.float64]:
    """Find the number of labels at which mean curves reach their target for good.

    That is where the isotonic fit, joined by straight lines, crosses: it stays above from there on.

    Args:
        labels: Labels at each evaluation, increasing, [T].
        curves: Means over seeds, [..., T].
        targets: One for each curve, or one for all, [...].

    Returns:
        [...]; infinity where a curve never does, and the first of `labels` where it begins there.
    """
    places = np.asarray(labels, dtype=np.float64)
    fits = isotonic(curves)
    level = np.broadcast_to(np.asarray(targets, dtype=np.float64), fits.shape[:-1])[..., np.newaxis]
    above = fits >= level
    after = above.argmax(axis=-1)[..., np.newaxis]  # the first evaluation at or above it
    before = np.maximum(after - 1, 0)
    low, high = np.take_along_axis(fits, before, -1), np.take_along_axis(fits, after, -1)
    # Where the curve begins above its target both are one place, and the share of the way does not matter.
    share = np.divide(level - low, high - low, out=np.zeros_like(low), where=high > low)
    crossing = places[before] + share * (places[after] - places[before])
    return np.asarray(np.where(above.any(axis=-1), crossing[..., 0], np.inf))


@dataclass(frozen=True)
class Plateau:
    """Where a curve ends, judged by its last quarter."""

    height: float
    """Mean over the last quarter and all seeds."""
    slope: Interval
    """Of the least-squares lines through the last quarter, one a seed, per label."""

    @property
    def flat(self) -> bool:
        """Whether nothing shows that the curve still moves; never with a single seed."""
        return bool(self.slope.low <= 0.0 <= self.slope.high)


def last_quarter(labels: ArrayLike) -> NDArray[np.bool_]:
    """Find which of the evaluations, [T], lie in the last quarter of the labels."""
    places = np.asarray(labels, dtype=np.float64)
    return np.asarray(places >= places[-1] - _LAST * (places[-1] - places[0]))


def plateau_of(labels: ArrayLike, curves: NDArray[np.float64]) -> Plateau:
    """Judge the end of learning curves.

    The unit is the seed: points of one curve hang together, and a line through all of them would look far too sure.

    Args:
        labels: Labels at each evaluation, increasing, [T].
        curves: One a seed, [S, T].
    """
    end = last_quarter(labels)
    places = np.asarray(labels, dtype=np.float64)[end]
    centred = places - places.mean()
    spread = float((centred**2).sum())
    slopes = curves[:, end] @ centred / spread if spread > 0 else np.full(len(curves), np.nan)
    return Plateau(float(curves[:, end].mean()), mean_interval(slopes))


def target_of(labels: ArrayLike, curves: NDArray[np.float64], share: float = 0.9) -> NDArray[np.float64]:
    """Find the level that lies a share of the way from the start of mean curves to their plateau.

    Args:
        labels: Labels at each evaluation, increasing, [T].
        curves: Means over seeds, [..., T].
        share: Of the way.

    Returns:
        [...].
    """
    start = curves[..., 0]
    return np.asarray(start + share * (curves[..., last_quarter(labels)].mean(axis=-1) - start))
