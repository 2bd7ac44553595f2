"""MaxFirstUCBNext: the favourite against its most optimistic rival (baseline of Di et al. 2023, arXiv 2310.00968).

Rule. i = argmax_i theta_hat . phi_i, j = argmax_j theta_hat . z_ji + beta |z_ji|, which may be i itself.

Widths. Only the favourite's row of widths is needed, O(K d) a row after the product with the matrix. H^-1 with beta = 2
by default, V^-1 by `width="design"`.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, taught
from duelenv.agents.contextual.design import Arms, Geometry
from duelenv.core import AgentView


def maxfirstucb_pair(geometry: Geometry, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module."""
    first = geometry.mean.argmax(axis=1)
    return first, optimistic_rival(geometry, first, beta)


def optimistic_rival(geometry: Geometry, first: Arms, beta: np.float32) -> Arms:
    """Return argmax_j theta_hat . z_ji + beta |z_ji| against i = first, int64 [N]."""
    scores = geometry.widths_to(first)
    scores *= beta
    scores += geometry.mean
    return scores.argmax(axis=1)


@register("maxfirstucb")
def maxfirstucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MaxFirstUCBNext agent."""
    return taught(WidthAgent(view, seed, "maxfirstucb", settings, maxfirstucb_pair), seed, settings)
