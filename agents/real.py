"""REAL (arXiv 2409.17169): duel the two responses that are least alike.

The rule looks at embeddings alone and never at a label. On a policy model it embeds the response text without its
prompt: the mean of the base model's last hidden layer over the response's tokens. In worlds of features the
features are the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.agents.selection import DissimilarityRule, dissimilar_pair, in_random_order, random_order
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams


@dataclass(frozen=True)
class RealSettings:
    """Which pair counts as the one to duel.

    Attributes:
        rule: "cosine", the lowest cosine similarity ("easy" in the paper); "similar", the highest ("hard"); "l2", the
            largest Euclidean distance; "kmeans", the candidates nearest to the two centroids of 2-means.
    """

    rule: DissimilarityRule = "cosine"

    def __post_init__(self) -> None:
        if self.rule not in get_args(DissimilarityRule):
            choices = ", ".join(get_args(DissimilarityRule))
            raise UserError(f"rule={self.rule!r} is unknown; choose one of {choices}")


@register("real")
def real(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the REAL agent."""
    rule = settings.take(RealSettings).rule
    streams = RowStreams(seed, "agents/real", view.num_envs)
    policy = view.policy

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        if policy is None:
            embeddings = observation["features"]
        else:
            embeddings = policy.embed(None, observation["tokens"], observation["mask"])
        pairs = in_random_order(lambda points, same: dissimilar_pair(points, rule, same), embeddings, groups, streams)
        return random_order(pairs, streams)

    return compose(view, seed, settings, select=select, streams=streams)
