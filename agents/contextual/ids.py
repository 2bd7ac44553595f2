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

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, best_entry, by_blocks
from duelenv.agents.contextual.design import Arms, Float32, Geometry
from duelenv.core import AgentView
from duelenv.oracles import checks


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
        geometry = self.measure(features)
        rows = np.arange(len(geometry.mean))
        best = geometry.mean.argmax(axis=1)
        base = (self.beta * geometry.widths_to(best) + geometry.mean).max(axis=1) - geometry.mean[rows, best]
        bases = iter(np.split(base, np.cumsum([len(block.mean) for block in geometry.blocks()])))
        first, second = by_blocks(lambda block: best_entry(gains(block, next(bases))), geometry)
        gap = geometry.mean[rows, best] - 0.5 * (geometry.mean[rows, first] + geometry.mean[rows, second])
        play = self.streams.uniform() * gap <= base  # q = min(1, D_0 / gap)
        return np.where(play, first, best), np.where(play, second, best)


def gains(geometry: Geometry, base: Float32) -> Float32:
    """Return I_ij over the squared regret of the best mixture of (i, j) with (b, b): the inverse ratios, [N, K, K].

    Args:
        geometry: Of the candidates.
        base: D_0, [N].
    """
    mean = geometry.mean
    rows = np.arange(len(mean))
    gaps = mean[rows, mean.argmax(axis=1)][:, None] - mean  # (N, K), not negative
    # With o = e^-gap in (0, 1], p_ij = o_i / (o_i + o_j), so p (1 - p) = 1 / (2 + o_i / o_j + o_j / o_i).
    odds = np.exp(-np.minimum(gaps, np.float32(40.0)))
    inverse = 1.0 / odds
    information = odds[:, :, None] * inverse[:, None, :]
    information += inverse[:, :, None] * odds[:, None, :]
    information += np.float32(2.0)
    np.divide(geometry.squares(), information, out=information)
    np.log1p(information, out=information)
    information *= np.float32(0.5)
    halves = 0.5 * gaps
    gap = halves[:, :, None] + halves[:, None, :]  # D_ij - D_0
    # 4 D_0 gap where gap > D_0, (gap + D_0)^2 elsewhere: both are (gap + D_0)^2 - max(gap - D_0, 0)^2
    floor = base[:, None, None]
    beyond = gap - floor
    gap += floor
    gap *= gap
    np.maximum(beyond, 0.0, out=beyond)
    beyond *= beyond
    gap -= beyond
    information /= np.maximum(gap, np.float32(1e-30), out=gap)
    return information


@register("ids")
def ids(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the information-directed sampling agent."""
    return IDS(view, seed, settings.take(EstimatorSettings), settings.take(IDSSettings))
