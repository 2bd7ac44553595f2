"""An agent as a composition: a belief about the utility, a rule that selects the pair, what moves the policy.

Not for any particular method: a method is a function that puts parts together, such as `duelenv.agents.thompson`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Learner, Listener, Ranked, Select, Stateful, equal_texts
from duelenv.agents.schooling import Schooling
from duelenv.core import AgentView, Labels, Observation, Pairs

if TYPE_CHECKING:
    from duelenv.agents.asking import PromptChoice
    from duelenv.agents.beliefs.base import Belief


class ComposedAgent(Agent):
    """Joins a belief, a selection rule and what moves the policy.

    Args:
        view: What the agent may know of its environment.
        select: The selection rule.
        belief: What is known of the utility; learns from every label. None where only the policy learns.
        schooling: What moves the policy, in worlds with one.
        prompts: In selective worlds, which rows ask for a label; None asks in all.
        labels: Where labels are counted, one number a replicate, int64 [R]; None for nobody who reads them.
        streams: Random streams and other state of the rules, by name, for checkpoints.
        listeners: Parts of the selection rule that hear of labels, by name.
    """

    def __init__(
        self,
        view: AgentView,
        *,
        select: Select,
        belief: Belief | None = None,
        schooling: Schooling | None = None,
        prompts: PromptChoice | None = None,
        labels: NDArray[np.int64] | None = None,
        streams: Mapping[str, Stateful] | None = None,
        listeners: Mapping[str, Listener] | None = None,
    ) -> None:
        super().__init__(view)
        if belief is None and schooling is None:
            raise ValueError("an agent needs a belief or a policy to learn anything")
        self.belief = belief
        self.schooling = schooling
        self._select = select
        self._prompts = prompts
        self._labels = np.zeros(view.replicates, np.int64) if labels is None else labels
        self._listeners = dict(listeners or {})
        self._streams = {**(streams or {}), **self._listeners}

    @property
    def learner(self) -> Learner | None:
        """What moves the policy; None in worlds without one."""
        return None if self.schooling is None else self.schooling.learner

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        groups = equal_texts(self.view, observation)
        chosen = Ranked.of(self._select(observation, groups))
        if not self.view.selective:
            return chosen.pairs
        asked = np.ones(len(chosen.pairs)) if self._prompts is None else self._prompts(observation, chosen, groups)
        return np.column_stack([chosen.pairs, asked.astype(np.int64)])

    def _learn_pieces(self, pieces: Sequence[Piece]) -> Metrics:
        for piece in pieces:
            self._labels += (~np.isnan(piece.labels)).reshape(self.view.replicates, -1).sum(axis=1)
        for listener in self._listeners.values():
            listener.hear(pieces)
        metrics: Metrics = {} if self.belief is None else self._believe(self.belief, pieces)
        if self.schooling is not None:
            metrics |= self.schooling.learn(pieces)
            self.gradient_steps = self.schooling.gradient_steps
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

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        return self._learn_pieces([self._current_piece(observation, actions, labels)])

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        if self.belief is not None:
            return self.belief.mean(observation["features"]).argmax(axis=1)
        assert self.learner is not None
        return self.learner.implicit_reward(observation).argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "heard": self._heard,
            "labels": self._labels.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._heard = int(state["heard"])
        self._labels[:] = state["labels"]
        if self.schooling is not None:
            self.gradient_steps = self.schooling.gradient_steps

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = dict(self._streams)
        if self.belief is not None:
            parts["belief"] = self.belief
        if self.schooling is not None:
            parts["schooling"] = self.schooling
        return parts
