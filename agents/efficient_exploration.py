"""Information-directed queries and a policy gradient (2603.17378, from excerpts, without its scale).

The duel is the one whose outcome a hundred particles agree on least, and the policy follows what they say of it and of
each prompt's extremes; the raw label teaches the particles alone. In a selective world half of the prompts ask.
"""

from __future__ import annotations

from duelenv.agents.asking.prompts import AT_RANDOM, prefer_prompts
from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView

_PARTICLES = 100
#: First layers that the particles share, where they are an ensemble: independent ones cost ten times as much.
_TRUNKS = 10


@register("efficient_exploration")
def efficient_exploration(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the agent.

    Raises:
        UserError: The world has a policy model but no candidates of its reference to tie it to.
    """
    settings.prefer(heads=_PARTICLES, num_samples=_PARTICLES, target_draws=_PARTICLES)
    prefer_prompts(settings, view, AT_RANDOM, one_in=2)  # 64 prompts are asked and 64 are not, as published
    if "heads" not in settings:  # any other number may have no such divisor
        settings.prefer(trunks=_TRUNKS)
    return compose(view, seed, settings, name="efficient_exploration", ask="infomax", teach="policy_gradient")
