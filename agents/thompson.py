"""Thompson sampling for alignment, SEA (arXiv 2411.01493): duel what a posterior draw believes best.

`objective="explore_exploit"` plays the favourites of two draws: both responses are worth showing. With
`objective="best_arm"` the first is a draw's favourite and the second its least certain rival: only the learned policy
counts, and duels may be ugly.

Where a policy is trained, the belief teaches it beside the labelled duels, by default the best against the worst of a
posterior draw: two favourites are worth asking about and teach little, since their label is nearly a coin. SEA's own
mixed preference learning, further pairs of the same choice labelled by a draw, is `teach="mixed"`.
"""

from __future__ import annotations

from dataclasses import dataclass

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView
from duelenv.ground import checks

OBJECTIVES = {"explore_exploit": "thompson", "best_arm": "best_arm"}
"""The ask rule of each."""


@dataclass(frozen=True)
class ThompsonSettings:
    """What the duels are for.

    Attributes:
        objective: "explore_exploit" (cumulative regret) or "best_arm" (the learned policy alone).
    """

    objective: str = "explore_exploit"

    def __post_init__(self) -> None:
        checks.one_of("objective", self.objective, OBJECTIVES)


@register("thompson")
def thompson(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Thompson sampling agent."""
    ask = OBJECTIVES[settings.take(ThompsonSettings).objective]
    return compose(view, seed, settings, name="thompson", ask=ask, teach="best_worst", teach_unasked=True)
