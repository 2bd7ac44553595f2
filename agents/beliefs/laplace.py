"""Last-layer Laplace belief: a Gaussian over the weights of a last layer, its prior fitted to the labels.

The layer stands on frozen features and on random rectified units of them, so that a utility need not be linear in the
features. What is fitted is convex, and exact up to the Laplace approximation (MacKay 1992): the posterior mode by
Newton's method, the covariance from the Hessian there, the prior's precision by the evidence. Nothing of it depends on
the order of the labels. Joint draws of K candidates cost the same for one as for a thousand.

Features must not drift: take them from a frozen model. One replicate only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, qr, solve_triangular
from scipy.special import expit

from duelenv.agents.beliefs.base import labelled
from duelenv.agents.beliefs.standardiser import Standardiser
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams, stream

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]

_NEWTON_STEPS: Final = 50
_CONVERGED: Final = 1e-12
#: Fixed-point steps of the evidence in one update; the next update goes on from there.
_EVIDENCE_STEPS: Final = 5
#: Of its logarithm, below which the precision stays as it is.
_PRECISION_TOLERANCE: Final = 0.01
_BIAS: Final = 0.3
_LEAST_PRECISION, _MOST_PRECISION = 1e-3, 1e4


@dataclass(frozen=True)
class LaplaceSettings:
    """Settings of `LastLayerLaplace`.

    The defaults were chosen by held-out log-loss, on and off what was asked about: `docs/alignment.md` has the figures.

    Attributes:
        units: Random rectified units beside the features themselves, at least 0; 0 makes the utility linear.
        prior_precision: Of every weight before the first label, above 0. Features are scaled so that their squares add
            up to about one, and so are the units: the utility of a response has prior variance 2 / prior_precision.
        prior_strength: How firmly the precision is held there, in observed weights: it is fitted under a Gamma
            distribution of that mean and half that shape. None does not fit it.
    """

    units: int = 256
    prior_precision: float = 0.5
    prior_strength: float | None = 10.0

    def __post_init__(self) -> None:
        checks.integer("units", self.units, low=0)
        checks.number("prior_precision", self.prior_precision, above=0.0)
        if self.prior_strength is not None:
            checks.number("prior_strength", self.prior_strength, above=0.0)


class _Posterior(NamedTuple):
    """Over the D weights, in an orthonormal basis of what the duels told apart; outside of it there is the prior.

    Attributes:
        mode: [D].
        basis: [D, r].
        root: Upper triangular U with U'U the precision in the basis, [r, r].
        precision: Of the prior.
    """

    mode: Float64
    basis: Float64
    root: Float64
    precision: float


class LastLayerLaplace:
    """A Gaussian posterior over w of r(phi) = w . psi(phi).

    psi is the standardised features over sqrt(d), and sqrt(2 / m) max(0, A x + b) of them with fixed random A and b.
    Features are standardised by the first vectors that `sample` or `update` meets.

    Args:
        dim: Number of features d.
        batch: Number of rows N that `sample` is asked for.
        root: Root integer of the random units and of the draws.
        settings: See `LaplaceSettings`.
    """

    def __init__(self, dim: int, *, batch: int, root: int, settings: LaplaceSettings | None = None) -> None:
        self.settings = settings or LaplaceSettings()
        self.dim = dim
        self._streams = RowStreams(root, "beliefs/laplace/draws", batch)
        generator = stream(root, "beliefs/laplace/units")
        self._directions = generator.standard_normal((dim, self.settings.units))
        self._offsets = _BIAS * generator.standard_normal(self.settings.units)
        self._standardiser = Standardiser(dim)
        self._first, self._second = np.zeros((2, 0, dim))
        self._labels = np.zeros(0)
        self._posterior = self._prior()

    @property
    def num_labels(self) -> int:
        """Number of labels learnt from so far."""
        return len(self._labels)

    @property
    def prior_precision(self) -> float:
        """Of the weights' prior as it was fitted last."""
        return self._posterior.precision

    def sample(self, features: Floats, num_samples: int) -> Float64:
        """Return joint utility draws [S, N, K] for features [N, K, d].

        Raises:
            UserError: Another number of rows than the batch, or of features.
        """
        if len(features) != self._streams.rows:
            raise UserError(f"sample was given {len(features)} rows; give the {self._streams.rows} of the batch")
        self._see(features)
        psi = self._layer(features)  # (N, K, D)
        num_arms = psi.shape[1]
        mode, basis, root, precision = self._posterior
        inside = psi @ basis  # (N, K, r)
        flat = inside.reshape(inside.shape[0] * num_arms, basis.shape[1]).T
        known = solve_triangular(root, flat, trans="T", check_finite=False) if len(flat) else flat
        unknown = (psi - inside @ basis.T) / np.sqrt(precision)  # (N, K, D)
        factor = np.concatenate([known.T.reshape(inside.shape), unknown], axis=2)  # covariance = factor factor'
        lower = np.swapaxes(np.linalg.qr(factor.swapaxes(1, 2), mode="r"), 1, 2)  # (N, K, K or less)
        normal = self._streams.normal(num_samples, num_arms)[..., : lower.shape[2]]  # (N, S, K)
        draws = (psi @ mode)[:, np.newaxis] + np.einsum("nkj,nsj->nsk", lower, normal)
        return np.ascontiguousarray(draws.swapaxes(0, 1))

    def mean(self, features: Floats) -> Float64:
        """Return the mode's utility [N, K] for features [N, K, d]."""
        return np.asarray(self._layer(features) @ self._posterior.mode)

    def update(self, first: Floats, second: Floats, labels: Floats) -> dict[str, float]:
        """Fit mode, covariance and prior to all labels so far.

        Args:
            first: Features of the first members [N, d]; any number of rows.
            second: Features of the second members [N, d].
            labels: [N], 1, 0, anything between as a soft target, NaN for none.

        Returns:
            `labels`: how many of the rows had one; `log_loss`: of the mode over all labels, in nats a duel (NaN while
            there is no label at all); `prior_precision`: as fitted.

        Raises:
            UserError: if a label is outside [0, 1] or the shapes do not fit.
        """
        known = labelled(first, second, labels)
        loss = float("nan")
        if known.any():
            self._see(np.stack([first[known], second[known]], axis=1))
            self._first = np.concatenate([self._first, first[known]])
            self._second = np.concatenate([self._second, second[known]])
            self._labels = np.concatenate([self._labels, labels[known]])
        if len(self._labels):
            loss = self._fit()
        return {"labels": float(known.sum()), "log_loss": loss, "prior_precision": self._posterior.precision}

    def state_dict(self) -> dict[str, Any]:
        """Return duels, posterior, standardisation and streams as plain arrays and numbers."""
        mode, basis, root, precision = self._posterior
        return {
            "first": self._first.copy(),
            "second": self._second.copy(),
            "labels": self._labels.copy(),
            "mode": mode.copy(),
            "basis": basis.copy(),
            "root": root.copy(),
            "precision": precision,
            "standardiser": self._standardiser.state_dict(),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` of a belief with the same arguments.

        Raises:
            UserError: if it was made with other settings.
        """
        if np.shape(state["mode"]) != self._posterior.mode.shape:
            raise UserError(
                f"the saved belief has {len(state['mode'])} weights, this one {len(self._posterior.mode)}; make it "
                "with the same settings"
            )
        self._first, self._second = np.array(state["first"]), np.array(state["second"])
        self._labels = np.array(state["labels"])
        mode, basis, root = (np.array(state[name]) for name in ("mode", "basis", "root"))
        self._posterior = _Posterior(mode, basis, root, float(state["precision"]))
        self._standardiser.load_state_dict(state["standardiser"])
        self._streams.load_state_dict(state["streams"])

    def _prior(self) -> _Posterior:
        width = self.dim + self.settings.units
        return _Posterior(np.zeros(width), np.zeros((width, 0)), np.zeros((0, 0)), self.settings.prior_precision)

    def _see(self, features: Floats) -> None:
        """Let the standardiser see features; while it still moves, so does the layer under the duels so far."""
        if features.shape[-1] != self.dim:
            raise UserError(f"features have shape {features.shape}; the last axis must be {self.dim}")
        if self._standardiser.observe(features.reshape(-1, self.dim)) and len(self._labels):
            self._fit()

    def _layer(self, features: Floats) -> Float64:
        """Compute psi of features [..., d], [..., D]."""
        if features.shape[-1] != self.dim:
            raise UserError(f"features have shape {features.shape}; the last axis must be {self.dim}")
        x = self._standardiser(np.asarray(features, np.float64)) / np.sqrt(self.dim)
        units = np.maximum(x @ self._directions + self._offsets, 0.0) * np.sqrt(2 / max(self.settings.units, 1))
        return np.concatenate([x, units], axis=-1)

    def _fit(self) -> float:
        """Fit to all labels; return the mode's log-loss, in nats a duel."""
        gaps = self._layer(self._first) - self._layer(self._second)  # (n, D)
        mode, precision = self._posterior.mode, self._posterior.precision
        if len(gaps) < gaps.shape[1]:  # the mode and all that was learnt lie in the span of the duels
            basis: Float64 = np.asarray(qr(gaps.T, mode="economic", check_finite=False)[0], np.float64)
            gaps = gaps @ basis
        else:
            basis = np.eye(gaps.shape[1])
        weights = basis.T @ mode
        for step in range(_EVIDENCE_STEPS + 1):
            weights = _mode(gaps, self._labels, precision, weights)
            root: Float64 = cholesky(_hessian(gaps, precision, weights), check_finite=False)
            fitted = precision if step == _EVIDENCE_STEPS else self._fitted_precision(weights, root, precision)
            if abs(np.log(fitted / precision)) < _PRECISION_TOLERANCE:
                break
            precision = fitted
        self._posterior = _Posterior(basis @ weights, basis, root, precision)
        return float(_loss(gaps, self._labels, 0.0, weights) / len(gaps))

    def _fitted_precision(self, weights: Float64, root: Float64, precision: float) -> float:
        """Take the next fixed-point step to the evidence's largest value (MacKay 1992), under the Gamma prior."""
        strength = self.settings.prior_strength
        if strength is None:
            return precision
        inverse_root = solve_triangular(root, np.eye(len(root)), check_finite=False)
        determined = len(weights) - precision * float((inverse_root**2).sum())  # tr H^-1 = |U^-1|^2
        fitted = (determined + strength) / (weights @ weights + strength / self.settings.prior_precision)
        return float(np.clip(fitted, _LEAST_PRECISION, _MOST_PRECISION))


def _loss(gaps: Float64, labels: Float64, precision: float, weights: Float64) -> float:
    """Compute minus the log posterior up to a constant: sum of log-losses and the prior's penalty."""
    margins = gaps @ weights
    return float((np.logaddexp(0.0, margins) - labels * margins).sum() + precision / 2 * weights @ weights)


def _hessian(gaps: Float64, precision: float, weights: Float64) -> Float64:
    p = expit(gaps @ weights)
    return np.asarray((gaps.T * (p * (1 - p))) @ gaps + precision * np.eye(len(weights)))


def _mode(gaps: Float64, labels: Float64, precision: float, weights: Float64) -> Float64:
    """Find the minimiser of `_loss` by Newton's method, its step halved until the loss falls."""
    value = _loss(gaps, labels, precision, weights)
    for _ in range(_NEWTON_STEPS):
        gradient = gaps.T @ (expit(gaps @ weights) - labels) + precision * weights
        step = cho_solve(cho_factor(_hessian(gaps, precision, weights)), gradient)
        decrease = float(gradient @ step)  # twice what a quadratic would gain
        if decrease < _CONVERGED:
            break
        share = 1.0
        while share > 1e-6:
            candidate = weights - share * step
            reached = _loss(gaps, labels, precision, candidate)
            if reached <= value - share * decrease / 4:
                weights, value = candidate, reached
                break
            share /= 2
        else:  # nothing left to gain in floating point
            break
    return weights
