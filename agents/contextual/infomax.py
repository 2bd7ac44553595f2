"""InfoMax: the duel of the most uncertain outcome (Dwaracherla et al. 2024, arXiv 2402.00396).

Rule. argmax_{i, j} Var[sigma(r_i - r_j)] over the posterior: the variance of the probability, not of the utility, so
that a duel whose outcome is certain is worth nothing however uncertain its margin.

The posterior is Gaussian here and the variance is computed, not sampled: with sigma(x) close to Phi(x / c), c^2 = 8 /
pi, m = theta_hat . z_ij, s = |z_ij| under H^-1, rho = s^2 / (c^2 + s^2) and h^2 = m^2 / (c^2 + s^2), it is the orthant
probability Phi_2(h, h; rho) - Phi(h)^2 = (1 / 2 pi) int_0^arcsin(rho) exp(-h^2 / (1 + sin a)) da (Plackett 1954), here
by its midpoint.

Where a policy is trained the variance is over draws of the agent's belief, by default an ensemble, as in the paper over
an epinet: `ask: infomax`.

It explores only: the best candidate meets others for ever and its cumulative regret is linear. Judge it by the
recommended candidate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, by_blocks, taught
from duelenv.agents.contextual.design import Arms, Float32, Geometry, distinct_pairs, of_distinct_pairs
from duelenv.agents.parts import compose
from duelenv.core import AgentView

_PROBIT_SCALE = np.float32(8.0 / np.pi)  # c^2


def outcome_variance(gaps: Float32, squares: Float32) -> Float32:
    """Return Var[sigma(x)] for x ~ N(m, s^2), up to the error of the probit form and the midpoint rule.

    Args:
        gaps: m, any shape.
        squares: s^2, the same shape.

    Returns:
        The variance, up to 10 % below s = 1 and up to 25 % at s = 3; the ranking of pairs is what it is for.
    """
    # In place where it can be: fresh memory costs as much as the arithmetic.
    total = squares + _PROBIT_SCALE
    rho = squares / total
    half_sine = rho * rho  # sin(a / 2) = sqrt((1 - cos a) / 2) for the angle a with sin a = rho
    np.sqrt(np.subtract(1.0, half_sine, out=half_sine), out=half_sine)
    np.sqrt(np.multiply(np.subtract(1.0, half_sine, out=half_sine), 0.5, out=half_sine), out=half_sine)
    total *= np.add(half_sine, 1.0, out=half_sine)
    exponent = gaps * gaps
    exponent /= total
    variance: Float32 = np.exp(np.negative(exponent, out=exponent), out=exponent)
    variance *= np.arcsin(rho, out=rho)
    variance *= np.float32(0.5 / np.pi)
    return variance


class InfoMax(ContextualAgent):
    """See the module."""

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        return by_blocks(infomax_pair, self.measure(features))


def infomax_pair(geometry: Geometry) -> tuple[Arms, Arms]:
    """See the module."""
    mean = geometry.mean
    first, second = distinct_pairs(mean.shape[1])
    gaps = mean.take(first, axis=1) - mean.take(second, axis=1)
    best = outcome_variance(gaps, of_distinct_pairs(geometry.squares(tied=True))).argmax(axis=1)
    return first[best], second[best]


@register("infomax")
def infomax(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the InfoMax agent."""
    if view.policy is not None:
        return compose(view, seed, settings, name="infomax", ask="infomax")
    return taught(InfoMax(view, seed, "infomax", settings.take(EstimatorSettings), "hessian"), seed, settings)
