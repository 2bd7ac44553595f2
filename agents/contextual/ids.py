"""Information-directed sampling: least regret squared for what a duel tells.

Russo and Van Roy 2014; for duels Kirschner and Krause 2021 (arXiv 2105.11802).

Rule. Let b be the favourite, D_0 = max_a theta_hat . z_ab + beta |z_ab| the regret that the duel (b, b) may have, and
D_ij = D_0 + theta_hat . (2 phi_b - phi_i - phi_j) / 2 that of (i, j). A duel (i, j) tells I_ij = log(1 + p (1 - p)
|z_ij|^2) / 2 nats about theta, p = sigma(theta_hat . z_ij), under the posterior N(theta_hat, H^-1); (b, b) tells
nothing. Of all mixtures that play (i, j) with probability q and (b, b) otherwise, IDS takes the one that MINIMISES
(expected regret)^2 / (expected information): q = min(1, D_0 / (D_ij - D_0)), with the ratio 4 D_0 (D_ij - D_0) / I_ij
where q < 1 and D_ij^2 / I_ij else. This is the approximate form of the paper, on the logistic information gain.

Widths. H^-1, because information is counted under the posterior; beta = 2 by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, by_blocks, taught
from duelenv.agents.contextual.design import Arms, Float32, Float64, Geometry, distinct_pairs, of_distinct_pairs
from duelenv.core import AgentView
from duelenv.ground import checks

Information = Callable[[Float32, Float32], Float32]


@dataclass(frozen=True)
class IDSSettings:
    """How pessimistic the regret of the favourite is.

    Attributes:
        beta: Posterior deviations in D_0, not negative.
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, low=0.0)


class IDS(ContextualAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        estimator: Settings of the estimate.
        settings: How pessimistic it is.
    """

    def __init__(self, view: AgentView, seed: int, estimator: EstimatorSettings, settings: IDSSettings) -> None:
        super().__init__(view, seed, "ids", estimator, "hessian")
        self.beta = np.float32(settings.beta)

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        return by_blocks(partial(ids_pair, beta=self.beta), self.measure(features), self.streams.uniform())


def ids_pair(geometry: Geometry, uniforms: Float64, *, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module.

    Args:
        geometry: Of the candidates.
        uniforms: [N], below q where the mixture plays the pair and not (b, b).
        beta: Posterior deviations in D_0.
    """
    mean = geometry.mean
    rows = np.arange(len(mean))
    best = mean.argmax(axis=1)
    squares = geometry.squares()
    base = (beta * np.sqrt(squares[rows, best]) + mean).max(axis=1) - mean[rows, best]
    return least_ratio(mean, squares, base, uniforms, information_gain)


def information_gain(variance: Float32, squares: Float32) -> Float32:
    """Return log(1 + variance * squares) / 2 in nats, in the memory of `squares`."""
    squares *= variance
    np.log1p(squares, out=squares)
    squares *= np.float32(0.5)
    return squares


def least_ratio(
    mean: Float32, squares: Float32, base: Float32, uniforms: Float64, information: Information
) -> tuple[Arms, Arms]:
    """Play the mixture of a duel with (b, b) that has the least squared regret per information.

    Args:
        mean: theta_hat . phi, [N, K].
        squares: |z_ij|^2, [N, K, K].
        base: D_0, [N], not negative.
        uniforms: [N], below q where the mixture plays the pair and not (b, b).
        information: What a duel tells, from p (1 - p) and |z_ij|^2 of the different pairs, [N, P] each, which it may
            write into.
    """
    rows = np.arange(len(mean))
    best = mean.argmax(axis=1)
    gaps = mean[rows, best][:, None] - mean  # (N, K), not negative
    first, second = distinct_pairs(mean.shape[1])
    first_gap, second_gap = gaps.take(first, axis=1), gaps.take(second, axis=1)
    # In place from here on: fresh memory costs as much as the arithmetic.
    margin = first_gap - second_gap
    odds = np.exp(np.negative(np.abs(margin, out=margin), out=margin), out=margin)  # e^-|theta_hat . z_ij|
    share = odds + np.float32(1.0)
    odds /= np.square(share, out=share)  # p (1 - p) = o / (1 + o)^2
    told = information(odds, of_distinct_pairs(squares))
    gap = np.add(first_gap, second_gap, out=first_gap)
    gap *= np.float32(0.5)  # D_ij - D_0
    # The least ratio has the greatest inverse. 4 D_0 gap where gap > D_0, (gap + D_0)^2 elsewhere: both are
    # (gap + D_0)^2 - max(gap - D_0, 0)^2
    floor = base[:, None]
    beyond = np.subtract(gap, floor, out=second_gap)
    np.maximum(beyond, 0.0, out=beyond)
    gap += floor
    np.square(gap, out=gap)
    gap -= np.square(beyond, out=beyond)
    told /= np.maximum(gap, np.float32(1e-30), out=gap)
    chosen = told.argmax(axis=1)
    first, second = first[chosen], second[chosen]
    play = uniforms * 0.5 * (gaps[rows, first] + gaps[rows, second]) <= base  # q = min(1, D_0 / (D_ij - D_0))
    return np.where(play, first, best), np.where(play, second, best)


@register("ids")
def ids(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the information-directed sampling agent."""
    return taught(IDS(view, seed, settings.take(EstimatorSettings), settings.take(IDSSettings)), seed, settings)
