"""MaxPairUCB: the pair whose sum of utilities may be largest (Di et al. 2023, arXiv 2310.00968, baselines).

Rule. argmax_{i, j} theta_hat . (phi_i + phi_j) + beta |z_ij|. A candidate against itself has width 0, so (best, best)
is played once beta |z_ij| < theta_hat . z_ij' for the best i and every rival j.

Widths. The papers take V^-1 with a radius beta_t that grows as sqrt(d log t); here the default is H^-1 with beta = 2
posterior deviations. Guarantee (V^-1, radius of the paper). Regret of order d sqrt T.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, best_entry, taught
from duelenv.agents.contextual.design import Arms, Geometry
from duelenv.core import AgentView


def maxpairucb_pair(geometry: Geometry, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module."""
    scores = geometry.widths()
    scores *= beta
    scores += geometry.mean[:, :, None]
    scores += geometry.mean[:, None, :]
    first, second = best_entry(scores)
    # The score is symmetric, so rounding alone would decide who comes first.
    return np.minimum(first, second), np.maximum(first, second)


@register("maxpairucb")
def maxpairucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MaxPairUCB agent."""
    return taught(WidthAgent(view, seed, "maxpairucb", settings, maxpairucb_pair), seed, settings)
