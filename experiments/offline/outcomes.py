"""Models of which of two candidates is preferred, learnt from logged duels, and cross-fitted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.experiments.offline.log import DuelLog

__all__ = ["Fit", "Predict", "bradley_terry", "cross_fitted"]

Float64 = NDArray[np.float64]
Predict = Callable[[NDArray[np.float32]], Float64]
"""Takes features [T, K, d] and returns P(i, j), the probability that i is preferred to j, [T, K, K]."""
Fit = Callable[[NDArray[np.float32], NDArray[np.float32], Float64], Predict]
"""Takes the features of the firsts and of the seconds, [N, d] each, and labels [N], and returns the model of them."""


def bradley_terry(first: NDArray[np.float32], second: NDArray[np.float32], labels: Float64) -> Predict:
    """Fit a linear Bradley-Terry utility, the maximum a posteriori under N(0, I)."""
    settings = LinearLogisticSettings(estimator="laplace", refit_every=max(1, len(labels)))
    belief = LinearLogistic(first.shape[1], replicates=1, batch=1, root=0, settings=settings)
    if len(labels):
        belief.update(first, second, labels)

    def predict(features: NDArray[np.float32]) -> Float64:
        utilities = belief.mean(features)
        chances: Float64 = expit(utilities[:, :, None] - utilities[:, None, :])
        return chances

    return predict


def cross_fitted(log: DuelLog, folds: int, fit: Fit) -> Float64:
    """Predict every round by a model of the same replicate's rounds in other folds, float64 [T, K, K].

    Every `folds`-th round is in the same fold, so that no model has seen a label that it predicts.
    """
    size = log.num_candidates
    predicted = np.empty((len(log), size, size))
    for _, places in log.by_replicate():
        for fold in range(folds):
            of_fold = np.arange(len(places)) % folds == fold
            held, others = places[of_fold], places[~of_fold]
            if not len(held):
                continue
            firsts, seconds = (log.features[others, log.pairs[others, side]] for side in (0, 1))
            predicted[held] = fit(firsts, seconds, log.labels[others])(log.features[held])
    return predicted
