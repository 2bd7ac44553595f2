"""What rules reach on a pool's prompts that ask for no duel: reference rows to hold agents against.

Some look at recorded utilities, which no agent may. Not for agents, and nothing here is random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.data import Pool
from duelenv.worlds.pool_duel.pairwise_fit import fit_all_pairs

Float64 = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Scores that are as near to the best as this, relative to it, are equal but for rounding.
_ROUNDING = 1e-9


def fixed_references(pool: Pool, train: Sequence[Indices], judged: Sequence[Indices]) -> dict[str, Float64]:
    """Return the simple regret of rules that look at no features.

    Args:
        pool: The responses.
        train: Numbers of the prompts to learn on, of each replicate.
        judged: Numbers of the prompts that the rules are judged on, of each replicate.

    Returns:
        float64 [R] each: `random`, `longest_response` and, where responders are recorded, `best_single_responder`; see
        `duelenv.worlds.pool_duel.PoolDuelVectorEnv.references`.
    """
    gaps = _gaps(pool)
    lengths = np.array([[len(text) for text in texts] for texts in pool.responses])
    by_rule = {
        "random": gaps.mean(axis=1),
        "longest_response": _mean_where(gaps, lengths == lengths.max(axis=1, keepdims=True)),
    }
    regret = {name: np.array([values[index].mean() for index in judged]) for name, values in by_rule.items()}
    if pool.responders is not None:
        codes = np.unique(pool.responders.astype(str), return_inverse=True)[1].reshape(gaps.shape)
        regret["best_single_responder"] = np.array(
            [_responder_regret(codes, gaps, own, index) for own, index in zip(train, judged, strict=True)]
        )
    return regret


def fit_on_all_pairs(
    pool: Pool,
    features: NDArray[np.float32],
    preference: Callable[[Float64], Float64],
    train: Sequence[Indices],
    judged: Sequence[Indices],
) -> Float64:
    """Return the simple regret of a linear belief that was told the outcome of every pair of the training prompts.

    The belief is the agents' default, a linear-logistic one with prior N(0, I), at its exact maximum; see
    `duelenv.worlds.pool_duel.pairwise_fit`.

    Args:
        pool: The responses.
        features: Of the responses, [P, K, d].
        preference: The label law: the mean label of a duel, by the gap in utility.
        train: Numbers of the prompts to learn on, of each replicate.
        judged: Numbers of the prompts that it recommends on, of each replicate.

    Returns:
        float64 [R]. Responses that it believes equally good count with their mean.
    """
    gaps = _gaps(pool)
    wins = preference(pool.utilities[:, :, np.newaxis] - pool.utilities[:, np.newaxis, :])
    # Replicates share most of their prompts, so that each is near to a fit on all of them.
    start = fit_all_pairs(features, wins)
    regret = np.empty(len(train))
    for replicate, (own, index) in enumerate(zip(train, judged, strict=True)):
        theta = fit_all_pairs(features[own], wins[own], start=start)
        scores = features[index].astype(np.float64) @ theta
        best = scores.max(axis=1, keepdims=True)
        regret[replicate] = _mean_where(gaps[index], scores >= best - _ROUNDING * (1.0 + np.abs(best))).mean()
    return regret


def _gaps(pool: Pool) -> Float64:
    gaps: Float64 = pool.utilities.max(axis=1, keepdims=True) - pool.utilities
    return gaps


def _mean_where(values: Float64, chosen: NDArray[np.bool_]) -> Float64:
    """Average over each row's chosen values, [P]."""
    means: Float64 = (values * chosen).sum(axis=1) / chosen.sum(axis=1)
    return means


def _responder_regret(codes: NDArray[Any], gaps: Float64, train: Indices, judged: Indices) -> float:
    """Return the mean gap on `judged` of the responder that is best on `train`; NaN if absent."""
    size = int(codes.max()) + 1
    number = np.bincount(codes[train].ravel(), minlength=size)
    # Gaps relative to the prompt's mean: a responder must not gain from having easy prompts.
    relative = gaps[train] - gaps[train].mean(axis=1, keepdims=True)
    total = np.bincount(codes[train].ravel(), relative.ravel(), minlength=size)
    eligible = 2 * number >= number.max()
    best = int(np.where(eligible, total / np.maximum(number, 1), np.inf).argmin())
    mine = codes[judged] == best
    answered = mine.any(axis=1)
    if not answered.any():
        return float("nan")
    return float(_mean_where(gaps[judged][answered], mine[answered]).mean())
