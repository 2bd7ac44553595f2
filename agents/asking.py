"""Which two candidates duel, by name: the rules of `selection` bound to a belief and to random streams.

A rule is registered as a function from `AskResources` and settings to what chooses the pairs of a round:

    @ASK.register("mine")
    def mine(resources, settings):
        def select(observation, groups):
            ...
            return pairs  # int64 [N, 2]
        return select

`duelenv.agents.make("composed", env, ask="mine", teach=..., belief=...)` plays it, and an agent of the literature is a
rule with what belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.roles import Listener, Select
from duelenv.agents.selection import (
    DissimilarityRule,
    best_arm_pair,
    best_of_n_pair,
    dissimilar_pair,
    extreme_pair,
    in_random_order,
    infomax_pair,
    random_order,
    reversed_thompson_pair,
    thompson_pair,
    uniform_between,
    uniform_pair,
)
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.ground.registry import Registry

#: Draws of a belief where a variance is taken over them, or where two of them may name the same text.
_DRAWS: Final = 20


class AskResources:
    """What an ask rule may use.

    Args:
        view: What the agent may know of its environment.
        streams: One per row, of the agent's own.
        make_belief: Makes the agent's belief.
        seed: Root of what a rule draws once.

    Attributes:
        view: As given.
        streams: As given.
        seed: As given.
        listeners: Parts of the rule that hear of labels, by name; see `listen`.
        duel_is_draw: Set by a rule whose every duel sets a candidate against one of the reference, drawn uniformly from
            those with another text where there are any: see `duelenv.agents.reference_draws`.
    """

    def __init__(self, view: AgentView, streams: RowStreams, make_belief: Callable[[], Belief], seed: int = 0) -> None:
        self.view = view
        self.streams = streams
        self.seed = seed
        self.listeners: dict[str, Listener] = {}
        self.duel_is_draw = False
        self._make_belief = make_belief

    @cached_property
    def belief(self) -> Belief:
        """What is known of the utility, made when it is first asked for; an agent that never does may hold none."""
        return self._make_belief()

    @property
    def holds_belief(self) -> bool:
        """Whether anybody asked for it."""
        return "belief" in self.__dict__

    def listen(self, name: str, listener: Listener) -> None:
        """Let a part of the rule hear of every label, before anything is learnt from it, and have its state kept."""
        self.listeners[name] = listener


class AskRule(Protocol):
    """Makes a choice of pairs for an agent."""

    def __call__(self, resources: AskResources, settings: SettingsReader) -> Select: ...


ASK: Registry[AskRule] = Registry("ask rule")


@dataclass(frozen=True)
class AskSettings:
    """How often a selective world is asked.

    Attributes:
        ask_share: Probability that a row asks for its label, SEA's gamma; a row that does not is labelled by the
            belief.
    """

    ask_share: float = 1.0

    def __post_init__(self) -> None:
        checks.number("ask_share", self.ask_share, low=0.0, high=1.0)


@dataclass(frozen=True)
class DrawSettings:
    """How many draws of the belief a round looks at.

    Attributes:
        num_samples: At least 2; None takes 2 for `thompson` in worlds of features, where the two favourites may
            coincide, and 20 elsewhere.
    """

    num_samples: int | None = None

    def __post_init__(self) -> None:
        if self.num_samples is not None:
            checks.integer("num_samples", self.num_samples, low=2)


@dataclass(frozen=True)
class DissimilaritySettings:
    """Which pair counts as the least alike.

    Attributes:
        rule: "cosine", the lowest cosine similarity ("easy" in the paper); "similar", the highest ("hard"); "l2", the
            largest Euclidean distance; "kmeans", the candidates nearest to the two centroids of 2-means.
    """

    rule: DissimilarityRule = "cosine"

    def __post_init__(self) -> None:
        checks.one_of("rule", self.rule, get_args(DissimilarityRule))


@ASK.register("random")
def at_random(resources: AskResources, settings: SettingsReader) -> Select:
    """Any two."""
    count, streams = resources.view.num_candidates, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return uniform_pair(count, streams, groups)

    return select


def _on_draws(
    resources: AskResources,
    settings: SettingsReader,
    rule: Callable[..., Pairs],
    default: int = _DRAWS,
) -> Select:
    """A rule over joint draws of the utility."""
    count = settings.take(DrawSettings).num_samples or default
    belief, streams = resources.belief, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return random_order(rule(belief.sample(observation["features"], count), groups), streams)

    return select


@ASK.register("thompson")
def thompson(resources: AskResources, settings: SettingsReader) -> Select:
    """The favourites of two draws."""
    return _on_draws(resources, settings, thompson_pair, 2 if resources.view.policy is None else _DRAWS)


@ASK.register("best_arm")
def best_arm(resources: AskResources, settings: SettingsReader) -> Select:
    """A draw's favourite and its least certain rival."""
    return _on_draws(resources, settings, best_arm_pair)


@ASK.register("infomax")
def infomax(resources: AskResources, settings: SettingsReader) -> Select:
    """The duel whose outcome the draws agree on least."""
    return _on_draws(resources, settings, infomax_pair)


@ASK.register("reversed_thompson")
def reversed_thompson(resources: AskResources, settings: SettingsReader) -> Select:
    """One draw's best against another's worst."""
    belief, streams = resources.belief, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return random_order(reversed_thompson_pair(belief.sample(observation["features"], 2), groups), streams)

    return select


def _on_mean(resources: AskResources, rule: Callable[..., Pairs]) -> Select:
    """A rule over the mean utility."""
    belief, streams = resources.belief, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return random_order(rule(belief.mean(observation["features"]), streams, groups), streams)

    return select


@ASK.register("extreme")
def extreme(resources: AskResources, settings: SettingsReader) -> Select:
    """The best against the worst under the mean."""
    return _on_mean(resources, extreme_pair)


@ASK.register("best_of_n")
def best_of_n(resources: AskResources, settings: SettingsReader) -> Select:
    """The best under the mean against any other."""
    return _on_mean(resources, best_of_n_pair)


@ASK.register("dissimilar")
def dissimilar(resources: AskResources, settings: SettingsReader) -> Select:
    """The two that are least alike: by the embedding of the response alone, or by features where no policy is there."""
    rule = settings.take(DissimilaritySettings).rule
    policy, streams = resources.view.policy, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        if policy is None:
            embeddings = observation["features"]
        else:
            embeddings = policy.embed(None, observation["tokens"], observation["mask"])
        pairs = in_random_order(lambda points, same: dissimilar_pair(points, rule, same), embeddings, groups, streams)
        return random_order(pairs, streams)

    return select


@ASK.register("against_reference")
def against_reference(resources: AskResources, settings: SettingsReader) -> Select:
    """A response of the policy against one of its reference, any of either.

    Raises:
        UserError: The candidates do not come from both.
    """
    view, streams = resources.view, resources.streams
    for source in ("policy", "reference"):
        if source not in view.sources:
            come = f"come from {', '.join(view.sources)} only" if view.sources else "come from no policy"
            raise UserError(
                f"ask rule 'against_reference' duels policy against reference, and the candidates {come}; set "
                "sources={'policy': ..., 'reference': ...}"
            )
    policy, reference = view.sources.index("policy"), view.sources.index("reference")
    resources.duel_is_draw = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        source = observation["source"]
        return random_order(uniform_between(source == policy, source == reference, streams, groups), streams)

    return select
