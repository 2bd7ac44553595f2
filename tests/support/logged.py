"""Logs of duels in worlds whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from duelenv.experiments.offline.log import DuelLog


def exact_log(chances: np.ndarray, shares: dict[tuple[int, int], int], repeats: int) -> DuelLog:
    """One context in which every pair and label comes exactly as often as it is expected to.

    `chances` [K, K] are multiples of 1 / `repeats`; `shares` says how often each ordered pair is played.
    """
    total = sum(shares.values())
    pairs, labels, propensities = [], [], []
    for (i, j), share in shares.items():
        won = round(chances[i, j] * repeats)
        pairs += [(i, j)] * share * repeats
        labels += ([1.0] * won + [0.0] * (repeats - won)) * share
        propensities += [(share + (shares.get((j, i), 0) if i != j else 0)) / total] * share * repeats
    features = np.tile(np.eye(len(chances), dtype=np.float32), (len(labels), 1, 1))
    return DuelLog(features, np.array(pairs), np.array(labels), np.array(propensities))


class World:
    """Bradley-Terry over normal features; a logger that prefers pairs with a large first feature by `skew`."""

    def __init__(self, seed: int, *, candidates: int = 4, dim: int = 3, scale: float = 2.0, skew: float = 0.0) -> None:
        self.generator = np.random.default_rng(seed)
        self.theta = self.generator.normal(size=dim)
        self.theta *= scale / np.linalg.norm(self.theta)
        self.candidates, self.dim, self.skew = candidates, dim, skew

    def log(self, rounds: int) -> DuelLog:
        draw, size = self.generator, self.candidates
        features = draw.normal(size=(rounds, size, self.dim)).astype(np.float32)
        ones, twos = np.triu_indices(size, 1)
        chances = np.exp(self.skew * (features[:, ones, 0] + features[:, twos, 0]))
        chances /= chances.sum(axis=1, keepdims=True)
        chosen = (chances.cumsum(axis=1) > draw.random((rounds, 1))).argmax(axis=1)
        pairs = np.stack([ones[chosen], twos[chosen]], axis=1)
        turned = draw.random(rounds) < 0.5
        pairs[turned] = pairs[turned][:, ::-1]
        rows = np.arange(rounds)
        wins = self.chances(features)[rows, pairs[:, 0], pairs[:, 1]]
        labels = (draw.random(rounds) < wins).astype(float)
        return DuelLog(features, pairs, labels, chances[rows, chosen])

    def chances(self, features: Any) -> np.ndarray:
        utilities = features @ self.theta
        return expit(utilities[:, :, None] - utilities[:, None, :])

    def value(self, features: Any, target: np.ndarray) -> float:
        """The mean Borda score of a target, [T, K], on these contexts."""
        borda = (self.chances(features).sum(axis=2) - 0.5) / (self.candidates - 1)
        return float((target * borda).sum(axis=1).mean())

    def fit(self, *_: Any) -> Any:
        """The truth as a model."""
        return self.chances
