"""Layers of estimates for the variance-aware rule, VACDB; no choice of pairs.

A duel teaches the first layer l = 1..L in which its width |z| under Sigma_l^-1 is at least 2^-l, and none where there
is no such layer. It enters with weight w = 2^-l / |z|, so that all duels of a layer are equally uncertain when they
come. Per layer: Sigma = 4^-l lambda I + sum w^2 z z' and its inverse; theta, the logistic maximum with weights w^2 and
the ridge term 4^-l lambda; and the radius

    beta_l = beta 2^-l (1 + sqrt(Var_l)),  Var_l = sum w^2 (label - sigma(theta . z))^2,

with the residual taken before each label. The paper's radius has this form with logarithms and the constants 16, 8, 18
and 6, under which nothing is learnt in any horizon of interest (its authors' code replaces it too); beta stands for
them. Few surprises, as where one candidate is far better, mean a small Var_l and a small radius: that is the
variance-awareness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.agents.contextual.agent import difference, feature_dim, small_numbers
from duelenv.agents.contextual.design import Arms, DesignMatrix, Float32, Float64, Floats, Geometry
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.oracles import checks
from duelenv.oracles.errors import UserError

_STATE = ("theta", "_roots", "_inverses", "variance", "num_labels")


@dataclass(frozen=True)
class LayerSettings:
    """Settings of the layered rules.

    Attributes:
        num_layers: L.
        beta: Factor on the radius, not negative.
        prior_precision: lambda, positive. A layer's label adds at most a quarter to what is known of its direction, so
            that a small lambda takes long to leave behind, whatever the number of labels.
    """

    num_layers: int = 4
    beta: float = 0.5
    prior_precision: float = 10.0

    def __post_init__(self) -> None:
        checks.integer("num_layers", self.num_layers, low=1)
        checks.number("beta", self.beta, low=0.0)
        if checks.number("prior_precision", self.prior_precision, low=0.0) == 0:
            raise UserError("prior_precision is 0; set it to a positive number")


class LayeredAgent(Agent):
    """Holds the layers; a subclass chooses the pairs.

    The estimate of a layer is the shared online Newton step: the arrays of the layers that a round teaches, one a
    replicate, are lent to one `LinearLogistic` and taken back.

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
        replicates, layers, dim = view.replicates, settings.num_layers, self.dim
        self.scale: Float64 = 0.5 ** np.arange(1, layers + 1, dtype=np.float64)  # 2^-l
        precision = settings.prior_precision * self.scale**2
        self.theta: Float64 = np.zeros((replicates, layers, dim))
        self._roots: Float64 = np.eye(dim) * (precision**-0.5)[:, None, None] * np.ones((replicates, 1, 1, 1))
        self._inverses: Float64 = np.eye(dim) * (1.0 / precision)[:, None, None] * np.ones((replicates, 1, 1, 1))
        self.variance: Float64 = np.zeros((replicates, layers))
        self.num_labels: NDArray[np.int64] = np.zeros((replicates, layers), np.int64)
        self._belief = LinearLogistic(dim, replicates=replicates, batch=1, root=seed, settings=LinearLogisticSettings())
        self._design = DesignMatrix(dim, replicates, 1.0)
        self._ties = small_numbers(view, seed, name)
        self._all_rows = np.arange(view.num_envs)

    def radii(self) -> Float32:
        """Return beta_l for every row, float32 [N, L]."""
        radii = self.settings.beta * self.scale * (1.0 + np.sqrt(self.variance))
        return np.repeat(radii.astype(np.float32), self.view.batch, axis=0)

    def geometry(self, features: Floats, layer: int) -> Geometry:
        """Return what one layer (counted from 0) says of features [N, K, d], widths under Sigma_l^-1."""
        grouped = (self.view.replicates, -1, self.dim)
        phi = np.asarray(features, np.float32)
        mean = phi.reshape(grouped) @ self.theta[:, layer, :, None].astype(np.float32)  # (R, B K, 1)
        relative = phi - phi[:, :1]
        left = relative.reshape(grouped) @ self._inverses[:, layer].astype(np.float32)
        return Geometry(mean.reshape(phi.shape[:2]) + self._ties, left.reshape(phi.shape), relative, self._ties)

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

    def _recommend(self, observation: Observation) -> Arms:
        """Name the favourite of all layers together, each theta weighted by its Sigma."""
        sigma = np.linalg.inv(self._inverses)  # (R, L, d, d)
        weighted = (sigma @ self.theta[..., None]).sum(axis=1)
        theta = np.linalg.solve(sigma.sum(axis=1), weighted)  # (R, d, 1)
        phi = np.asarray(observation["features"], np.float64)
        means: Float64 = phi.reshape(self.view.replicates, -1, self.dim) @ theta
        return means.reshape(phi.shape[:2]).argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {name.strip("_"): getattr(self, name).copy() for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _STATE:
            getattr(self, name)[...] = state[name.strip("_")]
