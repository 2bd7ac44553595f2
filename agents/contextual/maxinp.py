"""MaxInP: the least certain duel between candidates that may be best.

Saha 2021, "Optimal algorithms for stochastic contextual preference bandits", NeurIPS 34, Algorithm 1.

Rule. C = {i : theta_hat . z_ij + beta |z_ij| >= 0 for all j}, the candidates that nothing beats for certain; duel
argmax_{i, j in C} |z_ij|. With a single such candidate that is (best, best).

Widths. H^-1 with beta = 2 by default, V^-1 by `width="design"`. Guarantee (V^-1, radius of the paper). Regret of order
d sqrt T log T.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, best_entry, taught
from duelenv.agents.contextual.design import Arms, Float32, Geometry
from duelenv.core import AgentView


def maxinp_pair(geometry: Geometry, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module."""
    widths = geometry.widths()
    outside = beaten(geometry.mean, beta * widths)
    widths += (geometry.ties - outside)[:, :, None]
    widths += (geometry.ties - outside)[:, None, :]
    return best_entry(widths)


def beaten(mean: Float32, radius: Float32) -> Float32:
    """Tell who is beaten for certain: infinity where theta_hat . z_ij + radius_ij < 0 for some j, else 0.

    Args:
        mean: theta_hat . phi, [N, K].
        radius: [N, K, K], symmetric and not negative; overwritten.

    Returns:
        float32 [N, K]; the candidate with the largest mean is never beaten.
    """
    radius += mean[:, :, None]
    below = (radius < mean[:, None, :]).astype(np.float32)
    count = below @ np.ones(mean.shape[1], np.float32)  # sums rows three times as fast as sum does
    return np.where(count > 0, np.float32(np.inf), np.float32(0.0))


@register("maxinp")
def maxinp(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MaxInP agent."""
    return taught(WidthAgent(view, seed, "maxinp", settings, maxinp_pair), seed, settings)
