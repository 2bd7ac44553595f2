"""The words that worlds and agents share: observations, pairs, labels, and what an agent may know; no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.labels.stage import Stage

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

Observation = Mapping[str, Any]
Labels = NDArray[np.float64]
Pairs = NDArray[np.int64]

StageLike = Stage | str | Mapping[str, Any]
"""A stage, its name, or a mapping with its name and settings."""


SPLITS: Final = ("train", "test")
"""Contexts that an agent can be judged on: those that duels are drawn from, and held-out ones."""


class Recommender(Protocol):
    """The part of an agent that `evaluate` judges."""

    def recommend(self, observation: Observation) -> NDArray[np.int64]:
        """Return the arm it believes best in each row, int64 [N] (or a scalar for a scalar world)."""
        ...


@dataclass(frozen=True)
class AgentView:
    """All that an agent may know of its environment: its shape and its policy, never its truth.

    Attributes:
        world: The environment's id, such as "duelenv/FeatureDuel-v0".
        observation_space: One row's observation space.
        action_space: One row's action space.
        num_envs: Number of rows N = replicates * batch.
        batch: Adjacent rows that share one hidden truth and one learner.
        num_candidates: Candidates K in each row.
        horizon: Rounds in an episode.
        selective: Whether the action's third entry says if the label is asked for.
        scalar: Whether observations and actions come without the row axis.
        fixed_candidates: Whether every round shows the same candidates in the same order.
        late: Whether a label can come later than its round, so that `agent.update` needs `info["late"]`.
        budget: Labels that each replicate may ask for; None where only the rounds limit them.
        self_duels: Whether a candidate may meet itself, or an equal text: what a bandit plays that has found the best
            and counts regret. Where a label is what counts, and somebody reads the two, it is a label for nothing.
        policy: The live policy model that an agent may train, where there is one.
        sources: Where candidates come from, in the order of the observation's `source` numbers.
        source_counts: How many candidates of a row come from each of them.
        temperature: At which a policy's candidates are drawn; None in worlds without one.
    """

    world: str
    observation_space: spaces.Dict
    action_space: spaces.MultiDiscrete
    num_envs: int
    batch: int
    num_candidates: int
    horizon: int
    selective: bool
    scalar: bool
    fixed_candidates: bool = False
    late: bool = False
    budget: int | None = None
    self_duels: bool = True
    policy: CausalLMPolicy | None = None
    sources: tuple[str, ...] = ()
    source_counts: tuple[int, ...] = ()
    temperature: float | None = None

    @property
    def replicates(self) -> int:
        """Number of independent worlds R; row n belongs to replicate n // batch."""
        return self.num_envs // self.batch
