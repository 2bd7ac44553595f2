"""REAL (arXiv 2409.17169): duel the two responses that are least alike.

The rule looks at embeddings alone and never at a label. On a policy model it embeds the response text without its
prompt: the mean of the base model's last hidden layer over the response's tokens. In worlds of features the
features are the embedding.
"""

from __future__ import annotations

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView


@register("real")
def real(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the REAL agent."""
    return compose(view, seed, settings, name="real", ask="dissimilar")
