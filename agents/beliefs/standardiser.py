"""Standardises features by the moments of the first that were seen, so that a utility means the same to the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Feature vectors after which mean and deviation are fixed; later ones change nothing.
ENOUGH: Final = 256


class Standardiser:
    """Centres and scales features [..., d]; the identity before any was seen.

    Args:
        dim: Number of features d.
    """

    def __init__(self, dim: int) -> None:
        self._count = 0
        self._mean = np.zeros(dim)
        self._square = np.zeros(dim)  # summed squared distance to the mean
        self._scale = np.ones(dim)

    @property
    def mean(self) -> NDArray[np.float64]:
        """What is taken off, [d]."""
        return self._mean

    @property
    def scale(self) -> NDArray[np.float64]:
        """What the rest is multiplied by, [d]; 0 for a feature that does not vary, which is left out, not blown up."""
        return self._scale

    def __call__(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Standardise [..., d]."""
        return np.asarray((features - self._mean) * self._scale)

    def observe(self, features: NDArray[np.floating[Any]]) -> bool:
        """Take [M, d] into the moments, unless they are fixed already; tell whether anything changed."""
        if self._count >= ENOUGH or not len(features):
            return False
        seen = np.asarray(features, np.float64)
        count = self._count + len(seen)
        mean = seen.mean(0)
        shift = mean - self._mean
        self._square = self._square + ((seen - mean) ** 2).sum(0) + shift**2 * (self._count * len(seen) / count)
        self._mean = self._mean + shift * (len(seen) / count)
        self._count = count
        deviation = np.sqrt(self._square / count)
        varies = deviation > 1e-6 * np.abs(self._mean) + 1e-12
        self._scale = np.where(varies, 1 / np.maximum(deviation, 1e-12), 0.0)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return count and moments."""
        return {
            "count": self._count,
            "mean": self._mean.copy(),
            "square": self._square.copy(),
            "scale": self._scale.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._count = int(state["count"])
        self._mean, self._square, self._scale = (np.array(state[name]) for name in ("mean", "square", "scale"))
