"""DeltaUCB: the duel whose gap may be largest (ActiveUltraFeedback, arXiv 2603.09692).

Rule. argmax_{i != j} theta_hat . z_ij + beta |z_ij|: the most optimistic reading of one candidate against the most
pessimistic of another, with the deviation of the difference and not the sum of two deviations.

It chooses pairs worth labelling for what is learnt from them. It never plays a candidate against itself and keeps
showing bad ones, so its cumulative regret is linear; judge it by the recommended candidate.

Widths. H^-1 with beta = 2 by default, V^-1 by `width="design"`.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, best_entry, taught
from duelenv.agents.contextual.design import Arms, Geometry
from duelenv.core import AgentView


def deltaucb_pair(geometry: Geometry, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module."""
    scores = geometry.widths()
    scores *= beta
    scores += geometry.mean[:, :, None]
    scores -= geometry.mean[:, None, :]
    np.einsum("nkk->nk", scores)[...] = -np.inf
    return best_entry(scores)


@register("deltaucb")
def deltaucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the DeltaUCB agent."""
    return taught(WidthAgent(view, seed, "deltaucb", settings, deltaucb_pair), seed, settings)
