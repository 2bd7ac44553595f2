"""Layers of estimates for the variance-aware rules, VACDB and AdaCDB; no choice of pairs.

A duel teaches the first layer l = 1..L in which its width |z| under Sigma_l^-1 is at least 2^-l, and none where there
is no such layer. It enters with weight w = 2^-l / |z|, so that all duels of a layer are equally uncertain when they
come. Per layer: Sigma = 4^-l lambda I + sum w^2 z z' and its inverse; theta, the logistic maximum with weights w^2 and
the ridge term kappa 4^-l lambda; and the radius

    beta_l = 2^-l (sqrt(lambda) S + beta sqrt(Var_l)),  Var_l = sum w^2 (label - sigma(theta . z))^2,

with the residual taken before each label. It is to bound |theta - theta*| under Sigma: the first part is the pull of
the ridge, which is all there is before the first label, and the second the noise. Few surprises, as where one candidate
is far better, mean a small Var_l and a small radius: that is the variance-awareness. kappa bounds the slope of sigma
from below, so that the Hessian of theta is at least kappa Sigma. A larger ridge would hold theta nearer to 0 than the
labels want: each of them adds no more than a quarter of w^2 z z' to that Hessian.

The paper's second part has logarithms and the constants 16, 8, 18, 6 and 1 / kappa, under which candidates are not told
apart in any horizon of interest (its authors' code replaces it too): beta stands for them, and beta None takes them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.agents.contextual.agent import ask_all, difference, feature_dim, small_numbers
from duelenv.agents.contextual.design import Arms, DesignMatrix, Float32, Float64, Floats, Geometry
from duelenv.agents.roles import equal_texts
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks

_STATE = ("theta", "_roots", "_matrices", "_inverses", "variance", "num_labels")
_STEEPEST = 0.25  # of the logistic function


@dataclass(frozen=True)
class LayerSettings:
    """Settings of the layered rules.

    Attributes:
        num_layers: L.
        beta: Factor on the noise part of the radius, not negative; None takes the paper's.
        norm: S, the |theta*| that the radius allows for, positive.
        prior_precision: lambda, positive. A layer's label multiplies what is known of its direction by no more than
            1 + 4^-l, so that a small lambda takes long to leave behind, whatever the number of labels.
        kappa: Least slope of sigma at the margins of duels, positive and at most 1/4; 0.1 holds to margins of 2.
    """

    num_layers: int = 4
    beta: float | None = 0.5
    norm: float = 1.0
    prior_precision: float = 20.0
    kappa: float = 0.1

    def __post_init__(self) -> None:
        checks.integer("num_layers", self.num_layers, low=1)
        if self.beta is not None:
            checks.number("beta", self.beta, low=0.0)
        for name, high in (("norm", math.inf), ("prior_precision", math.inf), ("kappa", _STEEPEST)):
            checks.number(name, getattr(self, name), above=0.0, high=high)


class LayeredAgent(Agent):
    """Holds the layers; a subclass chooses the pairs.

    The estimate of a layer is the shared online Newton step: the arrays of the layers that a round teaches, one a
    replicate, are lent to one `LinearLogistic` and taken back, and likewise to one `DesignMatrix`.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: Of the layers.

    Attributes:
        theta: Estimates, float64 [R, L, d].
        variance: Var_l, float64 [R, L].
        num_labels: Labels in each layer, int64 [R, L].

    Raises:
        UserError: A world without features or with a policy model.
    """

    def __init__(self, view: AgentView, seed: int, name: str, settings: LayerSettings) -> None:
        super().__init__(view)
        self.dim = feature_dim(view, name)
        self.settings = settings
        replicates, layers = view.replicates, settings.num_layers
        self.scale: Float64 = 0.5 ** np.arange(1, layers + 1, dtype=np.float64)  # 2^-l
        start = settings.prior_precision * self.scale[:, None, None] ** 2 * np.eye(self.dim)  # 4^-l lambda I, (L, d, d)
        self.theta: Float64 = np.zeros((replicates, layers, self.dim))
        self._matrices: Float64 = np.tile(start, (replicates, 1, 1, 1))
        inverse = np.linalg.inv(start)
        self._inverses: Float64 = np.tile(inverse, (replicates, 1, 1, 1))
        self._roots: Float64 = np.sqrt(self._inverses / settings.kappa)
        self.variance: Float64 = np.zeros((replicates, layers))
        self.num_labels: NDArray[np.int64] = np.zeros((replicates, layers), np.int64)
        self._belief = LinearLogistic(
            self.dim, replicates=replicates, batch=1, root=seed, settings=LinearLogisticSettings()
        )
        self._design = DesignMatrix(self.dim, replicates, 1.0)
        self._ties = small_numbers(view, seed, name)
        self._all_rows = np.arange(view.num_envs)

    @abstractmethod
    def _choose(self, features: Floats) -> tuple[Arms, Arms]:
        """Return the first and second candidate of every row's duel, int64 [N] each, for features [N, K, d]."""

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        features = observation["features"]
        groups = equal_texts(self.view, observation)
        return ask_all(self.view, *self._choose(features), lambda: self.means(features), groups)

    def radii(self) -> Float32:
        """Return beta_l for every row, float32 [N, L]."""
        settings = self.settings
        noise = self._paper_noise() if settings.beta is None else settings.beta * np.sqrt(self.variance)
        radii = self.scale * (math.sqrt(settings.prior_precision) * settings.norm + noise)
        return np.repeat(radii.astype(np.float32), self.view.batch, axis=0)

    def geometry(self, features: Floats, layer: int) -> Geometry:
        """Return what one layer (counted from 0) says of features [N, K, d], widths under Sigma_l^-1."""
        grouped = (self.view.replicates, -1, self.dim)
        phi = np.asarray(features, np.float32)
        mean = phi.reshape(grouped) @ self.theta[:, layer, :, None].astype(np.float32)  # (R, B K, 1)
        relative = phi - phi[:, :1]
        left = relative.reshape(grouped) @ self._inverses[:, layer].astype(np.float32)
        return Geometry(mean.reshape(phi.shape[:2]) + self._ties, left.reshape(phi.shape), relative, self._ties)

    def means(self, features: Floats) -> Float64:
        """Return the utilities [N, K] to all layers together, each theta weighted by its Sigma."""
        weighted = (self._matrices @ self.theta[..., None]).sum(axis=1)
        theta = np.linalg.solve(self._matrices.sum(axis=1), weighted)  # (R, d, 1)
        phi = np.asarray(features, np.float64)
        means: Float64 = phi.reshape(self.view.replicates, -1, self.dim) @ theta
        return means.reshape(phi.shape[:2])

    def favourites(self, features: Floats) -> Arms:
        """Name the best candidate of every row, int64 [N]; see `means`."""
        return self.means(features).argmax(axis=1)

    def _paper_noise(self) -> Float64:
        """Return the noise part of the paper's radius over 2^-l, with T for t and delta = 1 / T, float64 [R, L]."""
        duels, kappa = self.view.horizon * self.view.batch, self.settings.kappa
        now = math.log(4 * duels**2 * len(self.scale) * duels)
        following = math.log(4 * (duels + 1) ** 2 * len(self.scale) * duels)
        estimated = 1 / self.scale >= 64 * _STEEPEST / kappa * math.sqrt(following)
        variance = np.where(estimated, self.variance, self.num_labels)
        noise: Float64 = (16 * np.sqrt((8 * variance + 18 * following) * now) + 6 * now) / kappa
        return noise

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        features = observation["features"]
        first, second = features[self._all_rows, actions[:, 0]], features[self._all_rows, actions[:, 1]]
        z = difference(first, second).reshape(self.view.replicates, -1, self.dim)
        y = labels.reshape(self.view.replicates, -1)
        for row in range(self.view.batch):  # each label's layer depends on those before
            self._teach(z[:, row], y[:, row])
        return {"labels": float((~np.isnan(labels)).sum())}

    def _teach(self, z: Float64, labels: Labels) -> None:
        """Learn one duel of every replicate, z [R, d] and labels [R]."""
        replicates = np.arange(len(z))
        squares = ((self._inverses @ z[:, None, :, None])[..., 0] @ z[:, :, None])[..., 0]  # |z|^2 per layer, (R, L)
        wide = squares >= self.scale**2
        taught = wide.any(axis=1) & ~np.isnan(labels)
        layer = wide.argmax(axis=1)
        here = (replicates, layer)
        # w^2 = 4^-l / |z|^2
        weights = np.where(taught, self.scale[layer] ** 2 / np.maximum(squares[here], np.finfo(np.float64).tiny), 0.0)
        theta = self.theta[here]
        residual = np.where(taught, labels, 0.0) - expit((theta * z).sum(axis=1))
        self.variance[here] += weights * residual**2
        self.num_labels[here] += taught
        self._belief.theta, self._belief.root_covariance = theta, self._roots[here]
        self._belief.update(z, np.zeros_like(z), np.where(taught, labels, np.nan), weights)
        self._design.inverse = self._inverses[here]
        self._design.update(z, weights)
        self.theta[here], self._roots[here] = self._belief.theta, self._belief.root_covariance
        self._inverses[here] = self._design.inverse
        known = np.where(taught[:, None], z, 0.0)
        self._matrices[here] += (weights[:, None] * known)[:, :, None] * known[:, None, :]

    def _recommend(self, observation: Observation) -> Arms:
        return self.favourites(observation["features"])

    def state_dict(self) -> dict[str, Any]:
        return {name.strip("_"): getattr(self, name).copy() for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _STATE:
            getattr(self, name)[...] = state[name.strip("_")]
