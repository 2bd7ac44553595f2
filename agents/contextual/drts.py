"""DRTS, double reversed Thompson sampling: one draw's best against another's worst (arXiv 2603.09692).

Rule. i = argmax_i r_i of one posterior draw, j = argmin_j r_j of an independent second draw, j != i.

It chooses pairs worth labelling for what is learnt from them, and always shows a bad candidate: its cumulative regret
is linear. Judge it by the recommended candidate.
"""

from __future__ import annotations

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView


@register("drts")
def drts(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the DRTS agent."""
    return compose(view, seed, settings, name="drts", ask="reversed_thompson")
