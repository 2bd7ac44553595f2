"""Passive learning: a random pair of every prompt. The baseline of every comparison.

On a policy model this is online DPO with uniformly chosen pairs. It holds no belief there, unless one is to teach
(`teach`), and recommends by the policy's own implicit reward. In worlds of features it learns the same posterior as the
others, from random duels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.agents.selection import uniform_pair
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground.randomness import RowStreams


@register("passive")
def passive(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the passive agent."""
    streams = RowStreams(seed, "agents/passive", view.num_envs)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return uniform_pair(view.num_candidates, streams, groups)

    return compose(view, seed, settings, select=select, streams=streams)
