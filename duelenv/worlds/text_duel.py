"""What worlds of texts share: an oracle that is shown them, at once or later, and the judging of texts; no texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.core import StageLike
from duelenv.ground.errors import UserError
from duelenv.labels.path import Round, Texts, Told
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Oracle, Preferences, ask
from duelenv.oracles.sources import Source, at_once_or_later
from duelenv.vector import DuelVectorEnv


class TextDuelVectorEnv(DuelVectorEnv):
    """A world whose duels can be put to somebody as texts.

    Args:
        oracle: Who answers: a callable (prompts, first, second) -> P(first preferred), at once; or a source with `ask`
            and `collect`, later. None leaves the answers to the world's own truth.
        num_envs: See `DuelVectorEnv`, as all others.
        batch: See there.
        num_candidates: See there.
        horizon: See there.
        observation: See there.
        selective: See there.
        feedback: See there.
        stages: See there.
        budget: See there.
        render_mode: See there.
    """

    self_duels = False

    def __init__(
        self,
        oracle: Oracle | Source | None,
        *,
        num_envs: int,
        batch: int,
        num_candidates: int,
        horizon: int,
        observation: Mapping[str, spaces.Space[Any]],
        selective: bool,
        feedback: str,
        stages: Sequence[StageLike] | None,
        budget: int | None,
        render_mode: str | None = None,
    ) -> None:
        self.oracle = oracle
        self._at_once, later = (None, None) if oracle is None else at_once_or_later(oracle)
        super().__init__(
            num_envs=num_envs,
            batch=batch,
            num_candidates=num_candidates,
            horizon=horizon,
            observation=observation,
            selective=selective,
            feedback=feedback,
            stages=stages,
            source=later,
            budget=budget,
            render_mode=render_mode,
        )

    @abstractmethod
    def _texts(self, first: NDArray[np.int64], second: NDArray[np.int64], rows: NDArray[np.int64]) -> Texts:
        """Return prompts, first and second responses of the current duels in some rows.

        Args:
            first: First candidates of all rows, [N].
            second: Second candidates, [N].
            rows: The rows that are wanted.
        """

    @abstractmethod
    def show(self, prompts: NDArray[np.object_], responses: NDArray[np.object_]) -> LazyObservation:
        """Return what an agent would see of given texts, whatever round it is.

        Args:
            prompts: [N].
            responses: [N, K].

        Raises:
            UserError: Texts that this world cannot show.
        """

    @abstractmethod
    def check_texts(self, prompts: NDArray[np.object_], responses: NDArray[np.object_]) -> None:
        """Raise `UserError` where `show` would; takes as many rows as there are, [M] and [M, K]."""

    @abstractmethod
    def held_out(self, prompts: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Return which of the prompts [M] each replicate holds out for `evaluate`, bool [replicates, M].

        Raises:
            UserError: The world was not reset, and draws what it holds out with the seed.
        """

    def _duel(self, duels: Round) -> Told:
        if self.oracle is None:
            return super()._duel(duels)
        first, second = duels.actions[:, 0], duels.actions[:, 1]

        def texts(rows: NDArray[np.int64]) -> Texts:
            return self._texts(first, second, rows)

        return (
            self._labels.requested(duels, texts)
            if self._at_once is None
            else self._labels.put(duels, self._at_once, texts)
        )

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        if self._at_once is None:
            raise UserError("the oracle answers later, so that preferences are not known at once; read info['late']")
        rows = np.arange(self.num_envs) if asked is None else np.flatnonzero(asked)
        win, tie = np.full(self.num_envs, np.nan), np.zeros(self.num_envs)
        if len(rows):
            answer = ask(self._at_once, *self._texts(first, second, rows))
            win[rows], tie[rows] = answer.win, answer.tie
        return Preferences(win, tie)
