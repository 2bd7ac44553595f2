"""An agent as a composition: a belief about the utility, a rule that selects the pair, a learner that moves the policy.

Not for any particular method: a method is a function that puts parts together, such as `duelenv.agents.thompson`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.pieces import Piece
from duelenv.core import AgentView, Labels, Observation, Pairs

if TYPE_CHECKING:
    from duelenv.agents.beliefs.base import Belief
    from duelenv.agents.set_losses import SetLoss


class Select(Protocol):
    """A selection rule bound to what it needs.

    It gets the observation and `groups` int64 [N, K], in which candidates with the same text share a number, or None
    where playing a candidate against itself is legal; it returns pairs int64 [N, 2].
    """

    def __call__(self, observation: Observation, groups: NDArray[np.int64] | None) -> Pairs: ...


@dataclasses.dataclass(frozen=True)
class Duels:
    """M labelled duels between candidates of one observation; a row may have several, or none.

    Attributes:
        rows: Row of the observation, int64 [M].
        pairs: The two candidates, int64 [M, 2].
        labels: float64 [M] in [0, 1], or NaN where there is no label.
    """

    rows: NDArray[np.int64]
    pairs: Pairs
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def labelled(self) -> Duels:
        """Return the duels that have a label."""
        kept = ~np.isnan(self.labels)
        return Duels(self.rows[kept], self.pairs[kept], self.labels[kept])


@dataclasses.dataclass(frozen=True)
class Sets:
    """M sets of J candidates of one observation with a number for each, and the loss that reads them.

    Attributes:
        rows: Row of the observation, int64 [M].
        arms: The candidates, int64 [M, J].
        values: float64 [M, J].
        loss: What the policy is to minimise on them.
    """

    rows: NDArray[np.int64]
    arms: NDArray[np.int64]
    values: NDArray[np.float64]
    loss: SetLoss

    def __len__(self) -> int:
        return len(self.rows)


class Played(NamedTuple):
    """The round that was just played.

    Attributes:
        observation: What was shown.
        groups: int64 [N, K], in which candidates with the same text share a number.
        duels: What duelled, as the oracle left it, one a row.
        unasked: Rows that did not ask, bool [N]; a row that still waits for its label has asked.
    """

    observation: Observation
    groups: NDArray[np.int64] | None
    duels: Duels
    unasked: NDArray[np.bool_]


class Teach(Protocol):
    """What the policy is taught about a round besides the oracle's labels, or instead of them.

    It goes to the learner only, marked as the model's; no query is made, and no belief hears of it.
    """

    def __call__(self, played: Played) -> Duels | Sets: ...


class Learner(Protocol):
    """Moves the policy by labels."""

    @property
    def gradient_steps(self) -> int:
        """Optimiser steps taken so far."""
        ...

    def learn(self, pieces: Sequence[Piece]) -> Metrics:
        """Learn from what the oracle said, all that came in one call; as many steps as the labels are worth."""
        ...

    def teach(self, observation: Observation, duels: Duels) -> Metrics:
        """Take a round's steps on labels that somebody imagined; NaN labels do not count."""
        ...

    def implicit_reward(self, observation: Observation) -> NDArray[np.float32]:
        """Return the policy's own estimate of each candidate's utility, [N, K]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class SetLearner(Learner, Protocol):
    """A learner that also follows objectives other than its own."""

    def teach_sets(self, observation: Observation, sets: Sets) -> Metrics:
        """Take a round's steps on sets of responses."""
        ...


class Stateful(Protocol):
    """Anything whose state belongs into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> None: ...


def equal_texts(view: AgentView, observation: Observation) -> NDArray[np.int64] | None:
    """Number the candidates by text where a policy is trained, int64 [N, K]: equal texts would waste their label.

    None in other worlds, where a candidate may be played against itself.
    """
    if view.policy is None:
        return None
    responses = observation["responses"]
    equal = responses[:, :, np.newaxis] == responses[:, np.newaxis, :]
    return equal.argmax(axis=2)  # the index of the first candidate with this text


class ComposedAgent(Agent):
    """Joins a belief, a selection rule and a learner.

    Args:
        view: What the agent may know of its environment.
        select: The selection rule.
        belief: What is known of the utility; learns from every label. None where only the policy learns.
        learner: What moves the policy, in worlds with one.
        teach: What the learner is taught besides labels.
        teach_labels: Whether the learner is taught the labels.
        ask: In selective worlds, which rows ask for a label, bool [N]; None asks in all.
        streams: Random streams and other state of the rules, by name, for checkpoints.
    """

    def __init__(
        self,
        view: AgentView,
        *,
        select: Select,
        belief: Belief | None = None,
        learner: Learner | None = None,
        teach: Teach | None = None,
        teach_labels: bool = True,
        ask: Callable[[], NDArray[np.bool_]] | None = None,
        streams: Mapping[str, Stateful] | None = None,
    ) -> None:
        super().__init__(view)
        if belief is None and learner is None:
            raise ValueError("an agent needs a belief or a learner to learn anything")
        self.belief = belief
        self.learner = learner
        self._select = select
        self._teach = teach
        self._teach_labels = teach_labels
        self._ask = ask
        self._streams = dict(streams or {})
        self._any_label = False

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        pairs = self._select(observation, equal_texts(self.view, observation))
        if not self.view.selective:
            return pairs
        asked = np.ones(len(pairs), np.bool_) if self._ask is None else self._ask()
        return np.column_stack([pairs, asked.astype(np.int64)])

    def _learn_pieces(self, pieces: Sequence[Piece]) -> Metrics:
        metrics = self._learn_given(pieces)
        # Before the first label a belief has nothing to say, and one round is imagined about once.
        if self.learner is not None and self._teach is not None and self._any_label:
            metrics |= self._teach_imagined(self.learner, self._teach, pieces[-1])
            self.gradient_steps = self.learner.gradient_steps
        return metrics

    def _learn_given(self, pieces: Sequence[Piece]) -> Metrics:
        metrics: Metrics = {}
        if self.belief is not None:
            metrics |= self._believe(self.belief, pieces)
        self._any_label = self._any_label or any(not np.isnan(piece.labels).all() for piece in pieces)
        if self.learner is not None and self._teach_labels:
            metrics |= self.learner.learn(pieces)
            self.gradient_steps = self.learner.gradient_steps
        return metrics

    def _believe(self, belief: Belief, pieces: Sequence[Piece]) -> Metrics:
        """Let the belief learn once from all pieces, those of a replicate adjacent and in order."""
        rows = np.arange(self.view.num_envs)
        columns = []
        for piece in pieces:
            features, pairs = piece.observation["features"], piece.actions
            columns.append((features[rows, pairs[:, 0]], features[rows, pairs[:, 1]], piece.labels))
        if len(columns) == 1:
            return belief.update(*columns[0])
        return belief.update(*(self._by_replicate(values) for values in zip(*columns, strict=True)))

    def _by_replicate(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return P arrays [R * B, ...] as one, [R * P * B, ...]."""
        split = (self.view.replicates, self.view.batch, *values[0].shape[1:])
        return np.concatenate([value.reshape(split) for value in values], axis=1).reshape(-1, *values[0].shape[1:])

    def _teach_imagined(self, learner: Learner, teach: Teach, piece: Piece) -> Metrics:
        """Let the learner learn what is imagined about the current round."""
        observation, pairs = piece.observation, piece.actions[:, :2]
        duels = Duels(np.arange(len(pairs)), pairs, piece.labels)
        unasked = piece.actions[:, 2] == 0 if self.view.selective else np.zeros(len(pairs), np.bool_)
        taught = teach(Played(observation, equal_texts(self.view, observation), duels, unasked))
        if isinstance(taught, Sets):
            assert isinstance(learner, SetLearner)
            figures = learner.teach_sets(observation, taught)
        else:
            figures = learner.teach(observation, taught)
        return {f"model_{name}": value for name, value in figures.items()} | {"model_labels": len(taught)}

    def believed(self, observation: Observation, num_samples: int) -> NDArray[Any] | None:
        """See `Agent.believed`."""
        if self.belief is None:
            return None
        features = observation["features"]
        state, count, rows = self.belief.state_dict(), len(features), self.view.num_envs
        try:
            drawn = [
                self.belief.sample(features[np.arange(start, start + rows) % count], num_samples)
                for start in range(0, count, rows)
            ]
        finally:
            self.belief.load_state_dict(state)
        return np.concatenate(drawn, axis=1)[:, :count]

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        return self._learn_pieces([self._current_piece(observation, actions, labels)])

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        if self.belief is not None:
            return self.belief.mean(observation["features"]).argmax(axis=1)
        assert self.learner is not None
        return self.learner.implicit_reward(observation).argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        parts = self._parts()
        heard = {"round": self._heard, "any_label": self._any_label}
        return {name: part.state_dict() for name, part in parts.items()} | {"heard": heard}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._heard, self._any_label = int(state["heard"]["round"]), bool(state["heard"]["any_label"])
        if self.learner is not None:
            self.gradient_steps = self.learner.gradient_steps

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = dict(self._streams)
        if self.belief is not None:
            parts["belief"] = self.belief
        if self.learner is not None:
            parts["learner"] = self.learner
        return parts
