"""Passive learning: a random pair of every prompt. The baseline of every comparison.

On a policy model this is online DPO with uniformly chosen pairs. It holds no belief there, unless one is to teach
(`teach`), and recommends by the policy's own implicit reward. In worlds of features it learns the same posterior as the
others, from random duels.
"""

from __future__ import annotations

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView


@register("passive")
def passive(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the passive agent."""
    return compose(view, seed, settings, name="passive", ask="random")
