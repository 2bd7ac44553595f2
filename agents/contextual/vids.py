"""VIDS: information-directed sampling about which candidate is best, not about the whole utility.

A composition of this project. The ratio is that of `ids`; the information that of the variance-based form for linear
bandits (Russo and Van Roy 2018, "Learning to optimize via information-directed sampling", sections 4.4 and 5.3).

Rule. Each of S posterior draws theta_s names the candidate a_s that is best under it. With mu_a the mean of the draws
that name a, pi_a their share, and b the favourite under theta_hat:

- the regret that (b, b) is expected to have is D_0 = mean_s max_k theta_s . (phi_k - phi_b);
- what is uncertain of theta and decides who is best is L = sum_a pi_a (mu_a - theta_hat) (mu_a - theta_hat)';
- knowing the best candidate would move the probability of (i, j) by p (1 - p) |z_ij| under L, so that the duel is
  worth the variance (p (1 - p))^2 |z_ij|^2.

It plays the mixture of a duel and (b, b) with the least squared regret per variance, as `ids` does. In directions that
decide nothing L has no width, and nobody pays for learning them.

Contexts. What counts for later rounds is who is best in their contexts, not in this one: L is a running mean over
`memory` rounds, which with fixed candidates changes little.

Units. Features are divided by a number per replicate such that the mean |z_ij|^2 of the first round is 2, as it is for
orthonormal features: the prior N(0, I / prior_precision) then gives utility differences the variance 2 /
prior_precision in every world, and the regret does not depend on the unit in which features are measured.

Use. Nothing is to be tuned to a world; docs/contextual.md compares it. Guarantee. None proved for this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, by_blocks, taught
from duelenv.agents.contextual.design import Arms, Float32, Float64, Geometry
from duelenv.agents.contextual.ids import least_ratio
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks

_MEAN_SQUARE = 2.0


@dataclass(frozen=True)
class VIDSSettings:
    """How finely the posterior is looked at.

    Attributes:
        num_samples: S, at least 2.
        memory: Rounds over which L is averaged, at least 1: the current one only.
    """

    num_samples: int = 16
    memory: int = 20

    def __post_init__(self) -> None:
        checks.integer("num_samples", self.num_samples, low=2)
        checks.integer("memory", self.memory, low=1)


class VIDS(ContextualAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        estimator: Settings of the estimate, of features in the module's units.
        settings: Of the rule.

    Attributes:
        scale: Factor on the features, float64 [R]; NaN before the first round.
        deciding: L, float64 [R, d, d], in the module's units.
    """

    def __init__(self, view: AgentView, seed: int, estimator: EstimatorSettings, settings: VIDSSettings) -> None:
        super().__init__(view, seed, "vids", estimator, "hessian")
        self.settings = settings
        self.scale: Float64 = np.full(view.replicates, np.nan)
        self.deciding: Float64 = np.zeros((view.replicates, self.dim, self.dim))

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        rows, arms, dim = features.shape
        replicates = self.view.replicates
        self._fix_scale(features)
        # From the first candidate, as in `measure`: only differences matter, and float32 keeps them exact.
        phi = (features - features[:, :1]).reshape(replicates, -1, dim) * self.scale[:, None, None].astype(np.float32)
        mean = (phi @ self.belief.theta.astype(np.float32)[:, :, None]).reshape(rows, arms) + self._ties
        draws = self.belief.sample_parameters(self.settings.num_samples)  # (N, S, d)
        relative = phi.reshape(rows, arms, dim) - phi.reshape(rows, arms, dim)[self._all_rows, mean.argmax(1)][:, None]
        sampled = relative @ draws.astype(np.float32).swapaxes(1, 2)  # theta_s . (phi_k - phi_b), (N, K, S)
        base = sampled.max(axis=1).mean(axis=1)  # D_0, not negative
        theta = self.belief.theta.repeat(self.view.batch, axis=0)[:, None]
        now = deciding_covariance(draws - theta, sampled.argmax(axis=1), arms)
        now = now.reshape(replicates, -1, dim, dim).mean(axis=1)
        self.deciding += (now - self.deciding) / self.settings.memory  # from 0: its size is nothing that the rule reads
        left = (phi @ self.deciding.astype(np.float32)).reshape(rows, arms, dim)
        geometry = Geometry(mean, left, phi.reshape(rows, arms, dim), self._ties)
        return by_blocks(vids_pair, geometry, base, self.streams.uniform())

    def _fix_scale(self, features: NDArray[Any]) -> None:
        if np.isnan(self.scale[0]):
            self.scale = unit_scale(features, self.view.replicates)

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        self._fix_scale(observation["features"])  # labels may come before the first choice
        return super()._update(observation, actions, labels)

    def _learn(self, first: NDArray[Any], second: NDArray[Any], labels: Labels) -> Metrics:
        scale = self.scale.repeat(self.view.batch)[:, None]
        return super()._learn(first * scale, second * scale, labels)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"scale": self.scale.copy(), "deciding": self.deciding.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.scale = np.array(state["scale"], np.float64)
        self.deciding = np.array(state["deciding"], np.float64)


def unit_scale(features: NDArray[Any], replicates: int) -> Float64:
    """Return the factor, [R], that makes the mean |z_ij|^2 of different candidates 2; 1 where all are alike.

    Args:
        features: [N, K, d], the rows of a replicate adjacent.
        replicates: R.
    """
    arms = features.shape[1]
    centred = features - features.mean(axis=1, keepdims=True, dtype=np.float64)
    # The mean of |z_ij|^2 over i != j is twice the sample variance.
    squares = 2.0 * (centred**2).sum(axis=(1, 2)).reshape(replicates, -1).mean(axis=1) / (arms - 1)
    return np.where(squares > 0.0, np.sqrt(_MEAN_SQUARE / np.where(squares > 0.0, squares, 1.0)), 1.0)


def deciding_covariance(deviations: Float64, best: Arms, num_arms: int) -> Float64:
    """Return sum_a pi_a m_a m_a', the covariance between the means m_a of draws that name the same candidate.

    Args:
        deviations: theta_s - theta_hat, [N, S, d].
        best: a_s, int64 [N, S].
        num_arms: K.

    Returns:
        float64 [N, d, d].
    """
    named = (best[:, None, :] == np.arange(num_arms)[:, None]).astype(np.float64)  # (N, K, S)
    sums = named @ deviations  # pi_a S m_a, (N, K, d)
    # Where nobody names a, its sum is 0.
    sums /= np.sqrt(best.shape[1] * np.maximum(named.sum(axis=2), 1.0))[:, :, None]
    covariance: Float64 = sums.swapaxes(1, 2) @ sums
    return covariance


def outcome_swing(geometry: Geometry) -> Float32:
    """Return (p (1 - p))^2 |z_ij|^2 of all pairs, [N, K, K]: how far knowing who is best would move their outcome.

    Args:
        geometry: Of the candidates, under L.
    """
    mean = geometry.mean
    odds = np.exp(-np.abs(mean[:, :, None] - mean[:, None, :]))
    swing: Float32 = (odds / (1.0 + odds) ** 2) ** 2 * geometry.squares(tied=True)
    return swing


def vids_pair(geometry: Geometry, base: Float32, uniforms: Float64) -> tuple[Arms, Arms]:
    """See the module.

    Args:
        geometry: Of the candidates, under L.
        base: D_0, [N].
        uniforms: [N], below the probability of the pair where the mixture plays it.
    """

    def worth(variance: Float32, squares: Float32) -> Float32:
        variance *= variance
        variance *= squares
        return variance

    return least_ratio(geometry.mean, geometry.squares(tied=True), base, uniforms, worth)


@register("vids")
def vids(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the agent that is told which candidate is best, at the least regret."""
    return taught(VIDS(view, seed, settings.take(EstimatorSettings), settings.take(VIDSSettings)), seed, settings)
