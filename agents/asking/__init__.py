"""Which two candidates duel, and in which rows, by name: pure rules bound to a belief and to random streams.

A rule is registered as a function from `AskResources` and settings to what chooses the pairs of a round:

    @ASK.register("mine")
    def mine(resources, settings):
        def select(observation, groups):
            ...
            return pairs  # int64 [N, 2], or Ranked(pairs, worth) with what each row's duel is worth
        return select

`duelenv.agents.make("composed", env, ask="mine", teach=..., belief=...)` plays it, and an agent of the literature is a
rule with what belongs to it. In a selective world a prompt rule says which rows ask: `duelenv.agents.asking.prompts`.
"""

from duelenv.agents.asking.base import ASK, AskResources, AskRule, DrawSettings
from duelenv.agents.asking.plain import DissimilaritySettings
from duelenv.agents.asking.prompts import PROMPTS, AskSettings, PromptChoice, PromptRule

__all__ = [
    "ASK",
    "PROMPTS",
    "AskResources",
    "AskRule",
    "AskSettings",
    "DissimilaritySettings",
    "DrawSettings",
    "PromptChoice",
    "PromptRule",
]
