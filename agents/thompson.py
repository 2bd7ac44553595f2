"""Thompson sampling for alignment, SEA (arXiv 2411.01493): duel what a posterior draw believes best.

`objective="explore_exploit"` plays the favourites of two draws: both responses are worth showing. With
`objective="best_arm"` the first is a draw's favourite and the second its least certain rival: only the learned policy
counts, and duels may be ugly.

Where a policy is trained, the belief teaches it beside the labelled duels, by default the best against the worst of a
posterior draw: two favourites are worth asking about and teach little, since their label is nearly a coin. SEA's own
mixed preference learning, further pairs of the same choice labelled by a draw, is `teach="mixed"`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose, make_belief
from duelenv.agents.selection import best_arm_pair, random_order, thompson_pair
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams

OBJECTIVES: dict[str, Callable[..., Pairs]] = {
    "explore_exploit": thompson_pair,
    "best_arm": best_arm_pair,
}


@dataclass(frozen=True)
class ThompsonSettings:
    """What the duels are for.

    Attributes:
        objective: "explore_exploit" (cumulative regret) or "best_arm" (the learned policy alone).
        num_samples: Posterior draws per round, at least 2; None takes 2 for "explore_exploit" in worlds of features,
            where the two favourites may coincide, and 20 elsewhere.
    """

    objective: str = "explore_exploit"
    num_samples: int | None = None

    def __post_init__(self) -> None:
        checks.one_of("objective", self.objective, OBJECTIVES)
        if self.num_samples is not None:
            checks.integer("num_samples", self.num_samples, low=2)


@dataclass(frozen=True)
class AskSettings:
    """How often a selective world is asked.

    Attributes:
        ask_share: Probability that a row asks for its label, SEA's gamma; a row that does not is labelled by a
            posterior draw.
    """

    ask_share: float = 1.0

    def __post_init__(self) -> None:
        checks.number("ask_share", self.ask_share, low=0.0, high=1.0)


@register("thompson")
def thompson(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the Thompson sampling agent."""
    chosen = settings.take(ThompsonSettings)
    rule = OBJECTIVES[chosen.objective]
    few = view.policy is None and chosen.objective == "explore_exploit"
    num_samples = chosen.num_samples or (2 if few else 20)
    belief = make_belief(view, seed, settings)
    streams = RowStreams(seed, "agents/thompson", view.num_envs)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        pairs = rule(belief.sample(observation["features"], num_samples), groups)
        return random_order(pairs, streams)

    ask: Callable[[], NDArray[np.bool_]] | None = None
    if view.selective:
        ask_share = settings.take(AskSettings).ask_share

        def ask() -> NDArray[np.bool_]:
            return streams.uniform() < ask_share

    return compose(view, seed, settings, select=select, streams=streams, belief=belief, teach="best_worst", ask=ask)
