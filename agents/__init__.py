"""The field's exploration agents: beliefs, pair selection, preference losses, and the agents made of them.

`make(name, env, seed)` builds an agent by the literature's name, `names()` lists them, and `register(name)` adds one.
"""

from duelenv.agents import (  # registers them
    contextual,
    custom,
    d2po,
    efficient_exploration,
    karmed,
    passive,
    presets,
    real,
    sb3,
    selm,
    teaching_sets,
    thompson,
)
from duelenv.agents.base import Agent, make, names, register
from duelenv.agents.composed import ComposedAgent

__all__ = [
    "Agent",
    "ComposedAgent",
    "contextual",
    "custom",
    "d2po",
    "efficient_exploration",
    "karmed",
    "make",
    "names",
    "passive",
    "presets",
    "real",
    "register",
    "sb3",
    "selm",
    "teaching_sets",
    "thompson",
]
