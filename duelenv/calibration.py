"""How sure a belief about a utility is, against how wrong it is; knows neither agents nor worlds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

#: A gap that a belief is surer of than this counts as known to this deviation.
_LEAST_DEVIATION = 1e-3


class Calibration(NamedTuple):
    """Of a belief about some candidates.

    Attributes:
        error: Root mean square of (believed gap - true gap) / deviation of the belief: 1 where the belief is as wrong
            as it says, above 1 where it is too sure.
        log_loss: What the belief's probabilities lose against the true ones, in nats a duel, at least 0.
    """

    error: float
    log_loss: float


def calibration(draws: NDArray[np.floating[Any]], utility: NDArray[np.float64]) -> Calibration:
    """Hold joint draws of a utility against the truth, over all pairs of candidates of a row.

    Args:
        draws: [S, N, K], S >= 2, in logits of a preference.
        utility: [N, K], likewise; K >= 2.

    Returns:
        Error and log-loss. Pairs of equal utility count too; those of one text, whose gap nobody doubts, do not.
    """
    first, second = np.triu_indices(utility.shape[1], k=1)
    gaps = draws[..., first].astype(np.float64) - draws[..., second]  # (S, N, P)
    true = utility[:, first] - utility[:, second]  # (N, P)
    deviation = gaps.std(axis=0, ddof=1)
    doubted = (deviation > 0.0) | (np.abs(true) > 0.0)
    if not doubted.any():
        return Calibration(float("nan"), float("nan"))
    off = (gaps.mean(axis=0) - true) / np.maximum(deviation, _LEAST_DEVIATION)
    p, believed = expit(true), np.clip(expit(gaps).mean(axis=0), 1e-12, 1.0 - 1e-12)
    loss = xlogy(p, p) - xlogy(p, believed) + xlogy(1.0 - p, 1.0 - p) - xlogy(1.0 - p, 1.0 - believed)
    return Calibration(float(np.sqrt((off[doubted] ** 2).mean())), float(loss[doubted].mean()))
