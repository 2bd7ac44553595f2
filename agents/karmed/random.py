"""Random duels: both candidates uniform and independent. The baseline of every comparison, in every world.

It learns only to recommend: the candidate whose number leads the counts, which means something where candidates stay
the same and is as good a guess as any where they are fresh. It moves no policy; `passive` is the random pair that does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.karmed.agent import KArmedAgent
from duelenv.agents.karmed.counts import Arms
from duelenv.agents.roles import equal_texts
from duelenv.agents.selection import uniform_pair
from duelenv.core import AgentView, Observation


class Random(KArmedAgent):
    """Draws both candidates uniformly, so that one meets itself in one of K duels, in worlds where it may.

    Its regret is T times the mean gap: linear, the line that a rule has to stay below.
    """

    fixed_arms = False
    simultaneous = True

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        actions = super()._act(observation)
        groups = equal_texts(self.view, observation)
        if groups is not None:
            actions[:, :2] = uniform_pair(self.num_arms, self.streams, groups)
        return actions

    def _choose(self) -> tuple[Arms, Arms]:
        pairs = (self.streams.uniform(2) * self.num_arms).astype(int)
        return pairs[:, 0], pairs[:, 1]

    def _recommend(self, observation: Observation) -> Arms:
        if self.view.policy is None:
            return super()._recommend(observation)
        # A world with a policy is one replicate, and judges on as many prompts as it has.
        return np.full(len(observation["responses"]), super()._recommend(observation)[0])


@register("random")
def random(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the random agent."""
    return Random(view, seed, "random")
