"""Links from a utility difference to the probability that the first response is preferred.

Not for losses or beliefs: these are the links of the truth, on NumPy arrays. A link F is
increasing with F(-x) = 1 - F(x), so that P(i beats j) + P(j beats i) = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from duelenv.ground.registry import Registry

Link = Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]


def logistic(difference: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Apply Bradley-Terry: 1 / (1 + exp(-difference)), accurate in both tails; any shape, dtype kept."""
    probability: NDArray[np.floating[Any]] = special.expit(difference)
    return probability


def probit(difference: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Apply Thurstone-Mosteller: the standard normal distribution function; any shape, dtype kept."""
    probability: NDArray[np.floating[Any]] = special.ndtr(difference)
    return probability


def cloglog(difference: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Apply the complementary log-log, symmetrised; any shape, dtype kept.

    The complementary log-log 1 - exp(-ln 2 e^x) is 1/2 at 0 but not symmetric, as a preference must be; its mean with
    its reflection is: (1 - 2^(-e^x) + 2^(-e^-x)) / 2. Its upper tail closes at the rate e^-x.
    """
    probability: NDArray[np.floating[Any]] = 0.5 - 0.5 * (
        np.exp2(-np.exp(np.minimum(difference, _CLOGLOG_LIMIT)))
        - np.exp2(-np.exp(np.minimum(-difference, _CLOGLOG_LIMIT)))
    )
    return probability


_CLOGLOG_LIMIT = 20.0
"""Beyond it 2^(-e^x) is 0 in double precision, and e^x would overflow later on."""

LINKS: Registry[Link] = Registry("link", {"logistic": logistic, "probit": probit, "cloglog": cloglog})
"""Link functions by name; one of your own is an increasing function F with F(-x) = 1 - F(x) on arrays of any shape."""


def link(name: str) -> Link:
    """Find the link called `name`.

    Raises:
        UserError: there is no such link.
    """
    return LINKS[name]
