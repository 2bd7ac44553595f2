"""Hidden utilities over numeric features, one per replicate, evaluated for all replicates at once.

For the truth of a world with features (`FeatureDuel`). Not for beliefs: nothing here is learned,
and nothing an agent can reach should hold one of these objects.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

HIDDEN_UNITS = 32
"""Width of both hidden layers of the `mlp` utility."""

FOURIER_FEATURES = 256
"""Random Fourier features of a `gp` utility: its kernel is exact to about 1 / sqrt(256)."""

STANDARDISING_DRAWS = 4096
"""Standard normal feature vectors over which an `mlp` utility is centred and scaled; the standard
deviation is then right to about 1 / sqrt(2 * 4096), one per cent."""

WEIGHT_GAIN = 2.0
"""Standard deviation of a hidden pre-activation for unit inputs: large enough that tanh bends and
the utility is far from linear, small enough that it does not become a step function."""


class FeatureUtility(Protocol):
    """Utility of every candidate of every replicate."""

    replicates: int
    dim: int

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities [R, B, K]."""
        ...


class LinearUtility:
    """u(x) = theta . x with one theta per replicate, |theta| = scale.

    Attributes:
        theta: float64 [R, d], the parameter vectors.
        replicates: R.
        dim: d.
    """

    def __init__(self, generators: Sequence[np.random.Generator], dim: int, scale: float) -> None:
        """Draw one theta from each generator: N(0, I), scaled to norm `scale`."""
        self.theta: NDArray[np.float64] = np.stack(
            [self._draw_theta(generator, dim, scale) for generator in generators]
        )
        self.replicates, self.dim = self.theta.shape
        self._set_columns()

    def _set_columns(self) -> None:
        self._column32 = self.theta.astype(np.float32)[:, :, None]  # (R, d, 1)
        self._column64 = self.theta[:, :, None]

    def moved_to(self, theta: NDArray[np.float64]) -> LinearUtility:
        """Move the same utility to other parameters, float64 [R, d]."""
        moved = copy.copy(self)
        moved.theta = theta
        moved._set_columns()
        return moved

    def _draw_theta(self, generator: np.random.Generator, dim: int, scale: float) -> NDArray[np.float64]:
        draw = generator.standard_normal(dim)
        normalised: NDArray[np.float64] = scale * draw / np.linalg.norm(draw)
        return normalised

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities [R, B, K], in the precision of the features."""
        _check_features(features, self.replicates, self.dim)
        replicates, batch, candidates, dim = features.shape
        column = self._column32 if features.dtype == np.float32 else self._column64
        # One matrix product per replicate: two to three times faster than einsum or a sum.
        flat = features.reshape(replicates, batch * candidates, dim)
        utilities: NDArray[np.floating[Any]] = np.matmul(flat, column)  # (R, B * K, 1)
        return utilities.reshape(replicates, batch, candidates)


class GaussianLinearUtility(LinearUtility):
    """u(x) = theta . x with theta ~ N(0, scale^2 I)."""

    def _draw_theta(self, generator: np.random.Generator, dim: int, scale: float) -> NDArray[np.float64]:
        return scale * generator.standard_normal(dim)


class SparseLinearUtility(LinearUtility):
    """u(x) = theta . x with |theta| = scale and two coordinates drawn from U(0, 1), the first ones; the rest is 0.

    The parameter of the experiments of Di et al. 2023 (arXiv 2310.00968). With d = 1 there is one coordinate.
    """

    def _draw_theta(self, generator: np.random.Generator, dim: int, scale: float) -> NDArray[np.float64]:
        theta = np.zeros(dim)
        theta[:2] = 1.0 - generator.random(min(2, dim))  # never 0
        normalised: NDArray[np.float64] = scale * theta / np.linalg.norm(theta)
        return normalised


class MLPUtility:
    """A random network with two hidden tanh layers of 32 units, one network per replicate.

    Each network is standardised to mean 0 and standard deviation `scale` over N(0, I) features.

    Attributes:
        replicates: R.
        dim: d.
    """

    def __init__(self, generators: Sequence[np.random.Generator], dim: int, scale: float) -> None:
        """Draw each replicate's weights, then its standardising features, from its generator."""
        draws = [_draw_network(generator, dim, scale) for generator in generators]
        self.replicates, self.dim = len(draws), dim
        # Layer l: weights (R, fan_in, fan_out) and biases (R, 1, fan_out), float32.
        self._layers = [
            (
                np.stack([network[layer][0] for network in draws]),
                np.stack([network[layer][1] for network in draws])[:, None, :],
            )
            for layer in range(3)
        ]

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities float32 [R, B, K]."""
        _check_features(features, self.replicates, self.dim)
        replicates, batch, candidates, dim = features.shape
        hidden = features.reshape(replicates, batch * candidates, dim).astype(np.float32, copy=False)
        (w1, b1), (w2, b2), (w3, b3) = self._layers
        hidden = np.tanh(np.matmul(hidden, w1) + b1)
        hidden = np.tanh(np.matmul(hidden, w2) + b2)
        output: NDArray[np.float32] = np.matmul(hidden, w3) + b3  # (R, B * K, 1)
        return output.reshape(replicates, batch, candidates)


class GaussianProcessUtility:
    """A draw from a Gaussian process with the squared-exponential kernel exp(-|x - y|^2 / 2), one per replicate.

    In the form of 256 random Fourier features (Rahimi and Recht 2007), u(x) = scale sqrt(2 / 256) sum_m g_m cos(w_m . x
    + b_m) with w_m, g_m standard normal and b_m uniform: standard deviation `scale` at every x over the draws.

    Attributes:
        replicates: R.
        dim: d.
    """

    def __init__(self, generators: Sequence[np.random.Generator], dim: int, scale: float) -> None:
        """Draw each replicate's frequencies, phases and amplitudes from its generator."""
        count = FOURIER_FEATURES
        frequencies, phases, amplitudes = [], [], []
        for generator in generators:
            frequencies.append(generator.standard_normal((dim, count)))
            phases.append(generator.uniform(0.0, 2.0 * np.pi, count))
            amplitudes.append(generator.standard_normal(count) * (scale * np.sqrt(2.0 / count)))
        self.replicates, self.dim = len(frequencies), dim
        self._frequencies = np.stack(frequencies).astype(np.float32)  # (R, d, M)
        self._phases = np.stack(phases).astype(np.float32)[:, None]  # (R, 1, M)
        self._amplitudes = np.stack(amplitudes).astype(np.float32)[:, :, None]  # (R, M, 1)

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities float32 [R, B, K]."""
        _check_features(features, self.replicates, self.dim)
        replicates, batch, candidates, dim = features.shape
        flat = features.reshape(replicates, batch * candidates, dim).astype(np.float32, copy=False)
        waves = np.cos(np.matmul(flat, self._frequencies) + self._phases)
        values: NDArray[np.float32] = np.matmul(waves, self._amplitudes)
        return values.reshape(replicates, batch, candidates)


class AckleyUtility:
    """The Ackley function, turned over, with its peak at a random place of each replicate.

    u(x) = scale (20 exp(-0.2 sqrt(mean y^2)) + exp(mean cos 2 pi y) - 20 - e), y = x - centre, centre ~ U[-1, 1]^d: at
    most 0, reached at the centre; many local maxima around it.

    Attributes:
        centre: float64 [R, d].
        replicates: R.
        dim: d.
    """

    def __init__(self, generators: Sequence[np.random.Generator], dim: int, scale: float) -> None:
        """Draw each replicate's centre from its generator."""
        self.centre: NDArray[np.float64] = np.stack([generator.uniform(-1.0, 1.0, dim) for generator in generators])
        self.replicates, self.dim = self.centre.shape
        self._scale = scale

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities float64 [R, B, K]."""
        _check_features(features, self.replicates, self.dim)
        y = features - self.centre[:, None, None, :]
        wide = 20.0 * np.expm1(-0.2 * np.sqrt((y * y).mean(axis=-1)))
        ripples = np.exp(np.cos(2.0 * np.pi * y).mean(axis=-1)) - np.e
        utilities: NDArray[np.float64] = self._scale * (wide + ripples)
        return utilities


class CosineUtility(LinearUtility):
    """u(x) = scale cos(3 theta . x) with theta uniform on the unit sphere: linear rules do not fit it.

    One of the utilities of Verma et al. 2024 (arXiv 2407.17112).
    """

    def __init__(self, generators: Sequence[np.random.Generator], dim: int, scale: float) -> None:
        """Draw one theta from each generator."""
        super().__init__(generators, dim, 1.0)
        self._scale = scale

    def __call__(self, features: NDArray[np.floating[Any]], /) -> NDArray[np.floating[Any]]:
        """Map features [R, B, K, d] to utilities [R, B, K], in the precision of the features."""
        utilities: NDArray[np.floating[Any]] = self._scale * np.cos(3.0 * super().__call__(features))
        return utilities


UTILITIES: Registry[Callable[[Sequence[np.random.Generator], int, float], FeatureUtility]] = Registry(
    "utility",
    {
        "linear": LinearUtility,
        "mlp": MLPUtility,
        "linear_gaussian": GaussianLinearUtility,
        "linear_sparse": SparseLinearUtility,
        "gp": GaussianProcessUtility,
        "ackley": AckleyUtility,
        "cosine": CosineUtility,
    },
)
"""Utility families by name; one of your own is made of R generators, the number of features d and a scale, and takes
features [R, B, K, d] to utilities [R, B, K]."""


def make_utility(name: str, generators: Sequence[np.random.Generator], dim: int, scale: float = 1.0) -> FeatureUtility:
    """Draw one hidden utility per generator.

    Replicate r depends on `generators[r]` alone, so more replicates never change the earlier ones.

    Args:
        name: "linear" (theta ~ N(0, I) scaled to norm `scale`), "linear_gaussian" (theta ~ N(0, scale^2 I)),
            "linear_sparse" (two coordinates, norm `scale`), "mlp" (two hidden layers of 32 tanh units, standard
            deviation `scale` over N(0, I) features), "gp", "ackley" or "cosine"; see the classes.
        generators: one per replicate, R of them; each is advanced.
        dim: number of features d.
        scale: size of the utility, in logits under the logistic link.

    Returns:
        An object taking features [R, B, K, d] to utilities [R, B, K].

    Raises:
        UserError: the name is unknown, there is no generator, or a number is out of range.
    """
    family = UTILITIES[name]
    if len(generators) == 0:
        raise UserError("generators is empty, expected one per replicate; pass at least one")
    dim = checks.integer("dim", dim, low=1)
    scale = checks.number("scale", scale, low=0.0)
    return family(generators, dim, scale)


def _check_features(features: NDArray[np.floating[Any]], replicates: int, dim: int) -> None:
    shape = features.shape
    if len(shape) != 4 or shape[0] != replicates or shape[3] != dim:
        raise ValueError(f"features have shape {shape}, expected ({replicates}, B, K, {dim})")


def _draw_network(
    generator: np.random.Generator, dim: int, scale: float
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Draw three (weights [fan_in, fan_out], bias [fan_out]) of one standardised network."""
    sizes = (dim, HIDDEN_UNITS, HIDDEN_UNITS)
    layers = [
        (
            generator.standard_normal((fan_in, HIDDEN_UNITS)) * (WEIGHT_GAIN / np.sqrt(fan_in)),
            generator.standard_normal(HIDDEN_UNITS) * 0.5,
        )
        for fan_in in sizes[:2]
    ]
    output = generator.standard_normal((HIDDEN_UNITS, 1))
    hidden = generator.standard_normal((STANDARDISING_DRAWS, dim))
    for weights, bias in layers:
        hidden = np.tanh(hidden @ weights + bias)
    values = hidden @ output
    factor = scale / values.std()
    layers.append((output * factor, np.array([-factor * values.mean()])))
    return [(weights.astype(np.float32), bias.astype(np.float32)) for weights, bias in layers]
