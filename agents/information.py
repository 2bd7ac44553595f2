"""What a duel would tell, from joint posterior draws of the utility; pure functions that choose nothing.

Shapes: S draws, N rows, K candidates. Whatever is said of a pair is of its gap r_i - r_j over JOINT draws: deviations
of single candidates do not add up, since what two of them share is not in their gap.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]

#: Numbers that are held at once where all pairs are looked at in all draws.
_MOST: Final = 4_000_000


def gaps_of(draws: Floats, pairs: NDArray[np.integer[Any]]) -> Float64:
    """Return r_i - r_j of one pair in every row, float64 [S, N], from draws [S, N, K] and pairs [N, 2]."""
    rows = np.arange(len(pairs))
    return np.subtract(draws[:, rows, pairs[:, 0]], draws[:, rows, pairs[:, 1]], dtype=np.float64)


def outcome_variance(gaps: Float64) -> Float64:
    """Return Var_S[sigma(gap)] for gaps [S, ...]: how much draws disagree on who wins (InfoMax, 2402.00396)."""
    return np.asarray(expit(gaps).var(axis=0))


def outcome_information(gaps: Float64) -> Float64:
    """Return the mutual information of label and utility in nats, H(E p) - E H(p), for gaps [S, ...].

    It is what a label is expected to tell of the utility as a whole (BALD, Houlsby et al. 2011, arXiv 1112.5745,
    equation 2). At most log 2; estimated too high by about 1 / (2 S) nats where p varies at all.
    """
    p = expit(gaps)
    mean = p.mean(axis=0)
    of_each = (entr(p) + entr(expit(-gaps))).mean(axis=0)
    return np.asarray(np.maximum(entr(mean) + entr(1.0 - mean) - of_each, 0.0))


def of_all_pairs(measure: Any, draws: Floats) -> tuple[NDArray[np.int64], Float64]:
    """Apply a measure of gaps to all pairs i < j.

    Args:
        measure: From gaps [S, n, P] to values [n, P].
        draws: [S, N, K].

    Returns:
        The pairs, int64 [2, P] with P = K (K - 1) / 2, and the values, float64 [N, P].
    """
    count, rows, arms = draws.shape
    first, second = np.triu_indices(arms, k=1)
    size = max(1, _MOST // (count * len(first)))
    values = [
        measure(np.subtract(part[..., first], part[..., second], dtype=np.float64))
        for part in (draws[:, start : start + size] for start in range(0, rows, size))
    ]
    return np.stack([first, second]), np.concatenate(values)
