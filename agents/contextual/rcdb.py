"""RCDB: MaxPairUCB whose labels count less where they could mislead most (Di, He and Gu 2024, arXiv 2404.10776).

Rule. argmax_{i, j} theta_hat . (phi_i + phi_j) + beta |z_ij|, as in MaxPairUCB. A label of the pair z enters the
likelihood and the matrix with weight w = min(1, alpha / |z|), the width being the one before the label: an adversary
who flips C labels gains most from duels of uncertain outcome, and those are held down.

Widths. H^-1 with beta = 2 by default, V^-1 by `width="design"`; both contain the weights. Guarantee (V^-1, alpha of
order sqrt(d) / C). Regret of order d sqrt T + d C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, difference, taught
from duelenv.agents.contextual.maxpairucb import maxpairucb_pair
from duelenv.core import AgentView, Labels
from duelenv.ground import checks


@dataclass(frozen=True)
class RCDBSettings:
    """How much an uncertain label counts.

    Attributes:
        alpha: Width up to which a label has weight 1, in the unit of the widths; positive.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, above=0.0)


class RCDB(WidthAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        settings: Read for all of its settings.
    """

    def __init__(self, view: AgentView, seed: int, settings: SettingsReader) -> None:
        super().__init__(view, seed, "rcdb", settings, maxpairucb_pair)
        self.alpha = settings.take(RCDBSettings).alpha

    def _learn(self, first: NDArray[Any], second: NDArray[Any], labels: Labels) -> Metrics:
        z = difference(first, second)
        weights = uncertainty_weights(self.square(z), self.alpha)
        metrics = self.belief.update(first, second, labels, weights)
        if self.design is not None:
            self.design.update(z, np.where(np.isnan(labels), 0.0, weights))
        return metrics


def uncertainty_weights(squares: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Return min(1, alpha / |z|) for |z|^2, both float64 [N]."""
    return np.minimum(1.0, alpha / np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny)))


@register("rcdb")
def rcdb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RCDB agent."""
    return taught(RCDB(view, seed, settings), seed, settings)
