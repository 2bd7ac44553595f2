"""Thompson sampling for alignment, SEA (arXiv 2411.01493): duel what a posterior draw believes best.

`objective="explore_exploit"` plays the favourites of two draws: both responses are worth showing. With
`objective="best_arm"` the first is a draw's favourite and the second its least certain rival: only the learned policy
counts, and duels may be ugly.

Where a policy is trained, mixed preference learning lets one posterior draw label further pairs of the same
responses. They cost no query, train the policy only, never the belief, and are marked as the model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.composed import ComposedAgent, Duels
from duelenv.agents.parts import make_belief, make_learner
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
class MixedPreferenceSettings:
    """How much the policy learns from labels that the belief imagines.

    Attributes:
        imagined_pairs: Further pairs per prompt and update that a posterior draw labels; 0 switches them off.
    """

    imagined_pairs: int = 1

    def __post_init__(self) -> None:
        checks.integer("imagined_pairs", self.imagined_pairs, low=0)


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
    learner = make_learner(view, seed, settings)
    streams = RowStreams(seed, "agents/thompson", view.num_envs)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        pairs = rule(belief.sample(observation["features"], num_samples), groups)
        return random_order(pairs, streams)

    imagined_pairs = settings.take(MixedPreferenceSettings).imagined_pairs if learner else 0

    def imagine(
        observation: Observation, groups: NDArray[np.int64] | None, duels: Duels, unasked: NDArray[np.bool_]
    ) -> Duels:
        """Choose further pairs by the same rule; label them, and those not asked for, by one draw a row."""
        everyone = np.arange(view.num_envs)
        rows = np.concatenate([duels.rows[unasked], *[everyone] * imagined_pairs])
        further = [select(observation, groups) for _ in range(imagined_pairs)]
        pairs = np.concatenate([duels.pairs[unasked], *further])
        draw = belief.sample(observation["features"], 2)[0]  # (N, K)
        margin = draw[rows, pairs[:, 0]] - draw[rows, pairs[:, 1]]
        return Duels(rows, pairs, expit(margin.astype(np.float64)))

    ask: Callable[[], NDArray[np.bool_]] | None = None
    if view.selective:
        ask_share = settings.take(AskSettings).ask_share

        def ask() -> NDArray[np.bool_]:
            return streams.uniform() < ask_share

    return ComposedAgent(
        view,
        select=select,
        belief=belief,
        learner=learner,
        imagine=imagine if imagined_pairs or ask else None,
        ask=ask,
        streams={"select": streams},
    )
