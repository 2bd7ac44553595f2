"""A policy for worlds that have none: a softmax over the candidates that are shown, log-linear in their features.

pi(k | x) is proportional to ref(k | x) exp(theta . phi_k / beta) with the uniform ref over the K candidates. Its
log-ratio against ref differs between two candidates by theta . z / beta, so the DPO loss on it is the Bradley-Terry
likelihood of theta: learning the policy is logistic regression, and the optimists' bonus is one more term of it. Not
for language models, which `duelenv.agents.learners` trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from duelenv.agents.base import Metrics, merged
from duelenv.agents.beliefs.linear_logistic import LinearLogistic
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Duels
from duelenv.core import Observation


class LogLinearPolicy:
    """Learns theta by online Newton steps on the preference loss and the bonus.

    Args:
        estimate: The regression on the labels; its draws are not used.
        beta: Strength of the KL penalty: how close the policy stays to uniform, in units of utility.
        alpha: Weight of the bonus alpha beta E_ref[log pi - log ref] (SELM's), added once per row and round.

    Attributes:
        gradient_steps: 0; a Newton estimate takes no optimiser steps.
    """

    gradient_steps = 0

    def __init__(self, estimate: LinearLogistic, *, beta: float, alpha: float) -> None:
        self._estimate = estimate
        self._beta = beta
        self._alpha = alpha

    def probabilities(self, observation: Observation) -> NDArray[np.float64]:
        """Return pi(k | x), [N, K]."""
        return np.asarray(softmax(self._estimate.mean(observation["features"]) / self._beta, axis=1))

    def learn(self, pieces: Sequence[Piece]) -> Metrics:
        """Learn from the labels, then take the bonus's Newton step on the round that was just played."""
        metrics = []
        for piece in pieces:
            rows = np.arange(len(piece.labels))
            metrics.append(self.teach(piece.observation, Duels(rows, piece.actions[:, :2], piece.labels)))
        observation = pieces[-1].observation
        features = np.asarray(observation["features"], np.float64)
        estimate = self._estimate
        # The bonus's gradient in theta is alpha (E_ref phi - E_pi phi): it pulls towards what pi prefers already.
        drift = np.einsum("nk,nkd->nd", self.probabilities(observation), features) - features.mean(axis=1)
        pull = self._alpha * drift.reshape(estimate.replicates, -1, estimate.dim).sum(axis=1)  # (R, d)
        estimate.theta = estimate.theta + (estimate.covariance @ pull[:, :, np.newaxis])[:, :, 0]
        return merged(metrics)

    def teach(self, observation: Observation, duels: Duels) -> Metrics:
        """Learn from labels alone."""
        features = np.asarray(observation["features"], np.float64)
        shown = features[duels.rows[:, np.newaxis], duels.pairs]  # (M, 2, d)
        return self._estimate.update(shown[:, 0], shown[:, 1], duels.labels)

    def implicit_reward(self, observation: Observation) -> NDArray[np.float32]:
        """Return theta . phi of every candidate, [N, K]."""
        return self._estimate.mean(observation["features"]).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the regression's state."""
        return self._estimate.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._estimate.load_state_dict(dict(state))
