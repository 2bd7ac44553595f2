"""Ask rules that look at no belief: any two, the least alike, the policy against its reference or a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Select, with_sources
from duelenv.agents.selection import (
    DissimilarityRule,
    dissimilar_pair,
    in_random_order,
    random_order,
    uniform_between,
    uniform_pair,
)
from duelenv.core import Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError


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


def at_random(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for any two."""
    count, streams = resources.view.num_candidates, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return uniform_pair(count, streams, groups)

    return select


def dissimilar(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the two least alike: by the embedding of the response alone, or by features where no policy is there."""
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


def against_reference(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for a response of the policy against one of its reference, any of either.

    Raises:
        UserError: The candidates do not come from both.
    """
    select = _against("reference", resources)
    resources.duel_is_draw = True
    return select


def against_recorded(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for a response of the policy against one that was recorded, any of either: on-policy against off-policy.

    Raises:
        UserError: The candidates do not come from both.
    """
    return _against("recorded", resources)


def _against(rival: str, resources: AskResources) -> Select:
    view, streams = resources.view, resources.streams
    for source in ("policy", rival):
        if source not in view.sources:
            come = f"come from {', '.join(view.sources)} only" if view.sources else "come from no policy"
            raise UserError(
                f"ask rule 'against_{rival}' duels policy against {rival}, and the candidates {come}; set "
                + with_sources(view, policy=2, **{rival: 2})
            )
    policy, other = view.sources.index("policy"), view.sources.index(rival)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        source = observation["source"]
        return random_order(uniform_between(source == policy, source == other, streams, groups), streams)

    return select
