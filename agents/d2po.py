"""D2PO (arXiv 2405.01511): few duels are labelled by the oracle, and a belief that learns from them labels the rest.

In a selective world every prompt's pair is taught, and one in sixteen is asked about; elsewhere every prompt has one
labelled pair and `taught_pairs` that the belief labels. Pairs are random, and the belief's word is its mean: nothing is
explored. The paper labels by a single reward model and hard; here the target is the probability.
"""

from __future__ import annotations

from duelenv.agents.asking.prompts import AT_RANDOM, prefer_prompts
from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView

#: 16 labels to 256 pairs, as published.
_ONE_IN = 16


@register("d2po")
def d2po(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the D2PO agent."""
    settings.prefer(target="mean")
    prefer_prompts(settings, view, AT_RANDOM, one_in=_ONE_IN)
    teach = "duel" if view.selective else "mixed"
    return compose(view, seed, settings, name="d2po", ask="random", teach=teach, teach_unasked=True)
