"""Responses of the reference that a bonus is taken over."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.roles import Duels, with_sources
from duelenv.core import AgentView, Observation
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

#: Whose responses the bonuses push down.
_PUSHED_AGAINST: Final = "reference"


class ReferenceDraws:
    """Responses of the reference at temperature 1: those among the candidates, or own where the world's is another.

    The mean over any fixed ones among the candidates, the first say, is without bias, whatever is known of them; over
    those that duelled it is not: who is chosen by utility is no draw of the reference any more, and even who is
    chosen at random from those that say something else than their rival says the rival's text too seldom.

    Where a rule chose so (`duel_is_draw`), the one that duelled may stand for a fixed one that says something else than
    the rival: both are draws of the reference of which nothing else is known. A fixed one that says what the rival says
    stays, and both are without bias together. As the duel's own is run anyway, its bonus then costs nothing.

    Args:
        view: Of a world with candidates of the reference.
        seed: Root of the streams of own draws.
        count: B, how many; None for as many as there are candidates of the reference.
        duel_is_draw: Whether duels that were asked set a candidate against one of the reference, drawn uniformly from
            those with another text where there are any.

    Attributes:
        count: B.

    Raises:
        UserError: No candidates come from the reference, or fewer than are asked for.
    """

    def __init__(self, view: AgentView, seed: int, count: int | None = None, *, duel_is_draw: bool = False) -> None:
        assert view.policy is not None
        if _PUSHED_AGAINST not in view.sources:
            raise UserError(
                f"a bonus pushes down what the reference says, and the candidates come from {', '.join(view.sources)} "
                f"only; set {with_sources(view, **{_PUSHED_AGAINST: 2})}"
            )
        self._policy = view.policy
        self._source = view.sources.index(_PUSHED_AGAINST)
        self._there = view.source_counts[self._source]
        self.count = self._there if count is None else count
        if self.count > self._there:
            raise UserError(
                f"bonus_draws={self.count} is more than the {self._there} candidates that come from the reference; "
                f"set {with_sources(view, **{_PUSHED_AGAINST: self.count})}, or take fewer"
            )
        self._shown_will_do = view.temperature == 1.0
        self._duel_is_draw = duel_is_draw
        self._streams = RowStreams(seed, "agents/bonus", view.num_envs)

    @property
    def beside(self) -> int:
        """How many of them are not a duel's own, and take a pass of their own."""
        return self.count - self._duel_is_draw

    def of(self, observation: Observation, duels: Duels, *, asked: bool) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Return tokens and mask [M, B, L] of B draws beside each of M duels of a round.

        Args:
            observation: The round.
            duels: They.
            asked: Whether they are those that the agent's ask rule chose.
        """
        columns = np.flatnonzero(observation["source"][0] == self._source)  # the same in every row
        rows = duels.rows
        if self._shown_will_do and len(columns) == self._there:  # texts from elsewhere come without any
            chosen = np.tile(columns[: self.count], (len(rows), 1))
            if asked and self._duel_is_draw:
                chosen = self._with_the_duels_own(observation, duels, chosen)
            places = rows[:, np.newaxis], chosen
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

    def _with_the_duels_own(
        self, observation: Observation, duels: Duels, chosen: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return chosen columns [M, B] with the duel's own of the reference in the place of one that might duel too."""
        each, places = np.arange(len(duels)), (duels.rows[:, np.newaxis], duels.pairs)
        of_reference = observation["source"][places] == self._source  # (M, 2)
        side = of_reference.argmax(1)
        own, rival = duels.pairs[each, side], observation["responses"][places][each, 1 - side]
        might = observation["responses"][duels.rows[:, np.newaxis], chosen] != rival[:, np.newaxis]  # (M, B)
        taken = (of_reference.sum(1) == 1) & (chosen != own[:, np.newaxis]).all(1) & might.any(1)
        chosen[taken, might[taken].argmax(1)] = own[taken]
        return chosen

    def state_dict(self) -> Any:
        """Return the state of its streams."""
        return self._streams.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Continue from `state_dict`."""
        self._streams.load_state_dict(state)
