"""An agent that is told the utility: the ceiling of what a belief can be worth. A control, never an entrant.

Importing this module registers it, and only a run whose `modules` name it can play it. The study gives it the oracle by
a setting; no ordinary agent has one, and what an ordinary agent can reach is not changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv import oracles
from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.parts import BELIEFS, compose
from duelenv.agents.pieces import Piece
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle, utility_of


@dataclass(frozen=True)
class ToldSettings:
    """Who tells the utility, and how pairs are chosen by it.

    Attributes:
        oracle: Name and settings of an oracle with a utility, that of the run.
        ask: Name of an ask rule.
    """

    oracle: Any = None
    ask: str = "extreme"

    def __post_init__(self) -> None:
        given = checks.mapping("oracle", self.oracle)
        checks.text("oracle.name", given.get("name"))
        checks.text("ask", self.ask)


class TrueUtility:
    """A belief that reads the utility where others have features, and is sure of it."""

    def sample(self, features: NDArray[np.floating[Any]], num_samples: int) -> NDArray[np.floating[Any]]:
        """Repeat the utility [S, N, K], the same in every draw."""
        return np.broadcast_to(features[..., 0], (num_samples, *features.shape[:2]))

    def mean(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the utility [N, K]."""
        return features[..., 0]

    def update(
        self,
        first: NDArray[np.floating[Any]],
        second: NDArray[np.floating[Any]],
        labels: NDArray[np.floating[Any]],
    ) -> dict[str, float]:
        """Learn nothing: it knows."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Hold nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""


class _Told(Mapping[str, Any]):
    """An observation with the utility [N, K, 1] in the place of the features."""

    def __init__(self, observation: Observation, truth: UtilityOracle) -> None:
        self._observation, self._truth = observation, truth
        self._utility: NDArray[np.float64] | None = None

    def __getitem__(self, key: str) -> Any:
        if key != "features":
            return self._observation[key]
        if self._utility is None:
            responses = self._observation["responses"]
            prompts = np.repeat(self._observation["prompt"], responses.shape[1])
            self._utility = self._truth.utility(prompts.tolist(), responses.ravel().tolist()).reshape(
                *responses.shape, 1
            )
        return self._utility

    def __iter__(self) -> Iterator[str]:
        return iter(self._observation)

    def __len__(self) -> int:
        return len(self._observation)


class PrivilegedAgent(Agent):
    """A composed agent that sees the utility instead of features.

    Args:
        inner: The agent.
        truth: Tells the utility.
    """

    def __init__(self, inner: Agent, truth: UtilityOracle) -> None:
        super().__init__(inner.view)
        self._inner, self._truth = inner, truth

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        return self._inner._act(_Told(observation, self._truth))

    def _learn_pieces(self, pieces: Sequence[Piece]) -> Metrics:
        told = [piece._replace(observation=_Told(piece.observation, self._truth)) for piece in pieces]
        metrics = self._inner._learn_pieces(told)
        self.gradient_steps = self._inner.gradient_steps
        return metrics

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        return self._learn_pieces([self._current_piece(observation, actions, labels)])

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        return self._inner._recommend(_Told(observation, self._truth))

    def state_dict(self) -> dict[str, Any]:
        """Return that of the agent inside."""
        return {"inner": self._inner.state_dict(), "heard": self._heard}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._inner.load_state_dict(state["inner"])
        self._heard = int(state["heard"])
        self.gradient_steps = self._inner.gradient_steps


@BELIEFS.register("true_utility")
def true_utility(view: AgentView, dim: int, seed: int, settings: SettingsReader) -> TrueUtility:
    """Make the belief of the agent below; of features, as others see them, it makes nothing of use."""
    return TrueUtility()


@register("perfect_belief")
def perfect_belief(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the agent that is told the utility.

    Raises:
        UserError: A world without texts, or an oracle without a utility.
    """
    if "responses" not in view.observation_space.spaces:
        raise UserError("agent 'perfect_belief' is told the utility of texts, and this world has none; leave it out")
    told = settings.take(ToldSettings)
    named = dict(told.oracle)
    truth = utility_of(oracles.make(named.pop("name"), **named))
    if truth is None:
        raise UserError(f"agent 'perfect_belief' got the oracle {told.oracle!r}, which has no utility to be told")
    settings.prefer(belief="true_utility")
    return PrivilegedAgent(compose(view, seed, settings, name="perfect_belief", ask=told.ask), truth)
