"""Responses of the reference that a bonus is taken over."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.core import AgentView, Observation
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

#: Whose responses the bonuses push down.
_PUSHED_AGAINST: Final = "reference"


class ReferenceDraws:
    """Responses of the reference at temperature 1: those among the candidates, or own where the world's is another.

    Args:
        view: Of a world with candidates of the reference.
        seed: Root of the streams of own draws.

    Attributes:
        count: B, how many of a round's candidates come from the reference.

    Raises:
        UserError: No candidates come from the reference.
    """

    def __init__(self, view: AgentView, seed: int) -> None:
        assert view.policy is not None
        if _PUSHED_AGAINST not in view.sources:
            raise UserError(
                f"a bonus pushes down what the reference says, and the candidates come from {', '.join(view.sources)} "
                "only; set sources={'policy': ..., 'reference': ...}"
            )
        self._policy = view.policy
        self._source = view.sources.index(_PUSHED_AGAINST)
        self.count = view.source_counts[self._source]
        self._shown_will_do = view.temperature == 1.0
        self._streams = RowStreams(seed, "agents/bonus", view.num_envs)

    def of(self, observation: Observation, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Return tokens and mask [M, B, L] of B draws in each of M rows of a round.

        B is `count`.
        """
        columns = np.flatnonzero(observation["source"][0] == self._source)  # the same in every row
        if self._shown_will_do and len(columns) == self.count:  # texts from elsewhere come without any
            places = rows[:, np.newaxis], columns
            return observation["tokens"][places], observation["mask"][places]
        uniforms = self._streams.uniform(self.count, self._policy.max_new_tokens)[rows]
        drawn = self._policy.sample(
            observation["prompt"][rows].tolist(),
            self.count,
            uniforms=uniforms,
            source=_PUSHED_AGAINST,
            temperature=1.0,
        )
        return drawn.tokens, drawn.mask

    def state_dict(self) -> Any:
        """Return the state of its streams."""
        return self._streams.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Continue from `state_dict`."""
        self._streams.load_state_dict(state)
