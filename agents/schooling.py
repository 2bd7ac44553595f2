"""What moves an agent's policy: the oracle's labels, what a belief says of the round, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from duelenv.agents.base import Metrics
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Duels, Learner, Played, SetLearner, Sets, Teach, equal_texts
from duelenv.core import AgentView


class Schooling:
    """A learner with what it is taught.

    Args:
        view: What the agent may know of its environment.
        learner: Moves the policy.
        teach: What it is taught besides labels; None for nothing.
        teach_labels: Whether it is taught the labels.

    Attributes:
        learner: As given.
    """

    def __init__(
        self, view: AgentView, learner: Learner, teach: Teach | None = None, *, teach_labels: bool = True
    ) -> None:
        self.learner = learner
        self._view = view
        self._teach = teach
        self._teach_labels = teach_labels
        self._any_label = False

    @property
    def gradient_steps(self) -> int:
        """Optimiser steps taken so far."""
        return self.learner.gradient_steps

    def learn(self, pieces: Sequence[Piece]) -> Metrics:
        """Learn from pieces, the current round's last, after the belief has; what was imagined is marked `model_`."""
        metrics = self.learner.learn(pieces) if self._teach_labels else {}
        self._any_label = self._any_label or any(not np.isnan(piece.labels).all() for piece in pieces)
        # Before the first label a belief has nothing to say, and one round is imagined about once.
        if self._teach is not None and self._any_label:
            metrics |= self._imagined(self._teach, pieces[-1])
        return metrics

    def _imagined(self, teach: Teach, piece: Piece) -> Metrics:
        """Teach what is imagined about the current round."""
        observation, pairs = piece.observation, piece.actions[:, :2]
        duels = Duels(np.arange(len(pairs)), pairs, piece.labels)
        unasked = piece.actions[:, 2] == 0 if self._view.selective else np.zeros(len(pairs), np.bool_)
        taught = teach(Played(observation, equal_texts(self._view, observation), duels, unasked))
        if isinstance(taught, Sets):
            assert isinstance(self.learner, SetLearner)
            figures = self.learner.teach_sets(observation, taught)
        else:
            figures = self.learner.teach(observation, taught)
        return {f"model_{name}": value for name, value in figures.items()} | {"model_labels": len(taught)}

    def state_dict(self) -> dict[str, Any]:
        """Return the learner's state, and whether there was a label."""
        return {"learner": self.learner.state_dict(), "any_label": self._any_label}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restore the policy's weights as well."""
        self.learner.load_state_dict(state["learner"])
        self._any_label = bool(state["any_label"])
