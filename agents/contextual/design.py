"""Widths of pairs of candidates under a posterior or a design matrix; no estimate and no choice of pairs.

All contextual rules need |z_ij|_A for z_ij = phi_i - phi_j under one of two matrices:

- the papers' A = V^-1, V = lambda I + sum w z z', kept here by `DesignMatrix`; their radius beta absorbs the factor
  1 / kappa by which V may overstate what a label tells;
- A = H^-1, the inverse Hessian lambda I + sum w p (1 - p) z z' of the regularised likelihood, which `LinearLogistic`
  keeps as a square root C. It is the covariance of theta, so that beta counts posterior deviations.

|z_ij|_A^2 = G_ii + G_jj - 2 G_ij with G = phi A phi': one batched matrix product for all pairs of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.beliefs.linear_logistic import LinearLogistic
from duelenv.ground import checks

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Arms = NDArray[np.int64]

MATRICES = ("hessian", "design")

_BLOCK_PAIRS = 1 << 16


@dataclass(frozen=True)
class WidthSettings:
    """Which widths a rule is optimistic with, and how much.

    Attributes:
        width: "hessian", posterior deviations under H^-1; or "design", the papers' widths under V^-1. With "hessian"
            and beta = 2 every rule here has a lower regret than with the radii of its paper.
        beta: Factor on the width, not negative.
    """

    width: str = "hessian"
    beta: float = 2.0

    def __post_init__(self) -> None:
        checks.one_of("width", self.width, MATRICES)
        checks.number("beta", self.beta, low=0.0)


class DesignMatrix:
    """The inverse of V = precision I + sum w z z' of every replicate, by Sherman and Morrison.

    Args:
        dim: Number of features d.
        replicates: Number of matrices R.
        precision: lambda, positive.

    Attributes:
        inverse: V^-1, float64 [R, d, d], symmetric to rounding.
    """

    def __init__(self, dim: int, replicates: int, precision: float) -> None:
        self.dim = dim
        self.replicates = replicates
        self.inverse: Float64 = np.tile(np.eye(dim) / precision, (replicates, 1, 1))

    def update(self, z: Float64, weights: Float64) -> None:
        """Add w z z' for every row, in O(d^2) each.

        Args:
            z: [N, d], N a multiple of R and the rows of a replicate adjacent; finite where the weight is not 0.
            weights: w, [N], not negative; 0 adds nothing.
        """
        w = weights.reshape(self.replicates, -1)  # (R, B)
        z = np.where(weights[:, None] > 0, z, 0.0).reshape(*w.shape, self.dim)
        for b in range(w.shape[1]):
            u = np.matvec(self.inverse, z[:, b])  # V^-1 z, (R, d)
            # (V + w z z')^-1 = V^-1 - w u u' / (1 + w z' u)
            factor = w[:, b] / (1.0 + w[:, b] * np.vecdot(z[:, b], u))
            self.inverse -= (factor[:, None] * u)[:, :, None] * u[:, None, :]

    def square(self, z: Floats) -> Float64:
        """Return |z|^2 under V^-1, float64 [N], for z [N, d]."""
        z = np.asarray(z, np.float64).reshape(self.replicates, -1, self.dim)
        return ((z @ self.inverse) * z).sum(-1).reshape(-1)

    def state_dict(self) -> dict[str, Any]:
        """Return the inverse."""
        return {"inverse": self.inverse.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict` of a matrix with the same arguments."""
        self.inverse = np.array(state["inverse"], np.float64)


@dataclass(frozen=True)
class Geometry:
    """The candidates of a round as a rule sees them.

    Only differences between candidates matter, so phi is measured from a point among a row's candidates: that keeps
    float32 exact where features share a large part. Squares are clipped at 0.

    Attributes:
        mean: theta_hat . phi + ties, float32 [N, K], up to a constant per row.
        left: float32 [N, K, d].
        right: float32 [N, K, d], with phi_i' A phi_j = left_i . right_j; the same array as `left` for a root of A.
        ties: A small number of every candidate that decides among equals, float32 [N, K].
    """

    mean: Float32
    left: Float32
    right: Float32
    ties: Float32

    def blocks(self) -> Iterator[tuple[slice, Geometry]]:
        """Yield the rows in blocks whose pairs [n, K, K] stay in the cache, in order, with their place."""
        num_rows, num_arms = self.mean.shape
        size = max(1, _BLOCK_PAIRS // num_arms**2)
        for start in range(0, num_rows, size):
            part = slice(start, start + size)
            left = self.left[part]
            right = left if self.right is self.left else self.right[part]
            yield part, Geometry(self.mean[part], left, right, self.ties[part])

    def squares(self, *, tied: bool = False) -> Float32:
        """Return |z_ij|^2 of all pairs, a new array [N, K, K] that the caller may write into.

        Args:
            tied: Add the ties of both candidates, which then decide among pairs of equal width.
        """
        # A scaled copy of the transposed side: NumPy sends A @ A.T to a routine four times as slow on small matrices.
        gram: Float32 = self.left @ np.multiply(self.right.swapaxes(1, 2), np.float32(-2.0), order="C")
        own = np.einsum("nkk->nk", gram) * np.float32(-0.5)
        if tied:
            own += self.ties
        gram += own[:, :, None]
        gram += own[:, None, :]
        return np.maximum(gram, 0.0, out=gram)

    def widths(self) -> Float32:
        """Return |z_ij| of all pairs, a new array [N, K, K] that the caller may write into."""
        squares = self.squares()
        return np.sqrt(squares, out=squares)

    def widths_to(self, arms: Arms) -> Float32:
        """Return |z_kj| for one candidate k = arms[n] of each row, [N, K]."""
        num_rows, num_arms, dim = self.left.shape
        chosen = np.arange(num_rows) * num_arms + arms
        left = self.left - self.left.reshape(-1, dim).take(chosen, axis=0)[:, None]
        if self.right is self.left:
            left *= left
        else:
            left *= self.right - self.right.reshape(-1, dim).take(chosen, axis=0)[:, None]
        return _root_of_sums(left)

    def own_widths(self) -> Float32:
        """Return |phi_k| of every candidate, a new array [N, K]."""
        return _root_of_sums(self.left * self.right)


@cache
def distinct_pairs(num_arms: int) -> Arms:
    """Return every pair i < j of K candidates once, int64 [2, K (K - 1) / 2]: half the work for symmetric scores."""
    pairs = np.stack(np.triu_indices(num_arms, 1))
    pairs.setflags(write=False)  # everybody's
    return pairs


def of_distinct_pairs(values: Float32) -> Float32:
    """Return the entries of [N, K, K] that belong to `distinct_pairs`, [N, K (K - 1) / 2]."""
    num_rows, num_arms, _ = values.shape
    first, second = distinct_pairs(num_arms)
    return values.reshape(num_rows, -1).take(first * num_arms + second, axis=1)


def _root_of_sums(terms: Float32) -> Float32:
    """Return the square root of the sums of [N, K, d] over d, clipped at 0, [N, K]."""
    num_rows, num_arms, dim = terms.shape
    # As a product with ones, a sum over a short axis takes half the time.
    squares: Float32 = terms.reshape(-1, dim) @ np.ones(dim, np.float32)
    return np.sqrt(np.maximum(squares, 0.0, out=squares), out=squares).reshape(num_rows, num_arms)


def measure(
    features: Floats,
    belief: LinearLogistic,
    design: DesignMatrix | None,
    ties: Float32,
    *,
    centred: bool = False,
) -> Geometry:
    """Apply an estimate and a matrix to the candidates of a round.

    Args:
        features: phi, [N, K, d], N a multiple of the replicates.
        belief: Gives theta_hat, and C where there is no design.
        design: Gives V^-1; None takes H^-1 = C C' of the belief.
        ties: See `Geometry`.
        centred: Measure phi from the mean of each row's candidates, for rules that read `own_widths`; otherwise from
            the first candidate, which is cheaper.
    """
    rows, arms, dim = features.shape
    origin = np.full((1, arms), 1.0 / arms, np.float32) @ features if centred else features[:, :1]  # (N, 1, d)
    phi = np.asarray(features - origin, np.float32).reshape(belief.replicates, -1, dim)
    matrix = belief.root_covariance if design is None else design.inverse
    left = (phi @ matrix.astype(np.float32)).reshape(rows, arms, dim)
    mean = (phi @ belief.theta.astype(np.float32)[:, :, None]).reshape(rows, arms)
    mean += ties
    return Geometry(mean, left, left if design is None else phi.reshape(rows, arms, dim), ties)
