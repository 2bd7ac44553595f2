"""MaxMinLCB: a leader that no follower can beat for certain (Pasztor, Kassraie and Krause 2024, arXiv 2406.16745).

Rule. Among the plausible maximisers M = {i : theta_hat . z_ij + beta |z_ij| >= 0 for all j}, with LCB(i, j) = theta_hat
. z_ij - beta |z_ij|: the leader is argmax_i min_j LCB(i, j), the follower is its argmin_j LCB(i, j). Once M is one
candidate, that candidate meets itself.

Widths. The paper's are of a kernelised logistic estimate; here H^-1 with beta = 2 by default, V^-1 by `width="design"`.
Guarantee (paper's radius). Regret of order gamma_T sqrt T, with gamma_T = d log T for linear utilities.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import WidthAgent, taught
from duelenv.agents.contextual.design import Arms, Geometry
from duelenv.agents.contextual.maxinp import beaten
from duelenv.core import AgentView


def maxminlcb_pair(geometry: Geometry, beta: np.float32) -> tuple[Arms, Arms]:
    """See the module."""
    radius = geometry.widths()
    radius *= beta
    mean = geometry.mean
    outside = beaten(mean, radius.copy())  # 0 in M, infinity outside
    # max_j [radius_ij - theta_hat . z_ij] = -min_j LCB(i, j), over j in M
    radius += (mean - outside)[:, None, :]
    num_rows, num_arms = mean.shape
    flat = radius.reshape(-1, num_arms)
    follower = flat.argmax(axis=1)  # and taking it: four times as fast as max over a short axis
    worst = flat.reshape(-1).take(np.arange(len(flat)) * num_arms + follower).reshape(mean.shape) - mean
    first = (worst + outside).argmin(axis=1)
    return first, follower.reshape(mean.shape)[np.arange(num_rows), first]


@register("maxminlcb")
def maxminlcb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the MaxMinLCB agent."""
    return taught(WidthAgent(view, seed, "maxminlcb", settings, maxminlcb_pair), seed, settings)
