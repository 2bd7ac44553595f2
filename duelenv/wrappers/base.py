"""What wrappers of labels share: the round an answer belongs to, draws that stay with it, checkpoints; no disturbance.

A wrapper changes labels on their way from the world to the agent: it may alter, lose or hold them back. What it decides
about a label depends on the round in which the duel was fought and on nothing that other wrappers do, so wrappers
compose in any order, and flips and delays commute.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

from duelenv.core import AgentView, DuelVectorEnv, Labels, Recommender
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.late import Answers, no_answers

Marks = NDArray[np.float64]
"""One number a row that decides what happens to the label of a round: a uniform, or the margin of its duel."""


class LabelWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector environment of duelenv whose labels are disturbed.

    Nothing else is: observations, regret, `certainty` and `margin` are the world's, queries are counted once, by the
    world, and `unwrapped` is the world, so `duelenv.agents.make(name, env)` works. `step` adds to its info

    - `round`: number of the round in its episode, from 0;
    - `late`: `Answers` of earlier rounds that arrive with this step, by round and row;
    - `pending`: bool [N], the rows of this round whose label may still come.

    Every wrapper has its own streams under the world's root and reads them once a round and row, so agents under one
    seed meet the same disturbances. The second wrapper of a kind has streams of its own.

    The scalar form is `DuelEnv` around a wrapped vector environment of one row.

    Args:
        env: A vector environment of duelenv, or another of these wrappers.

    Raises:
        UserError: It is neither.
    """

    kind: ClassVar[str]
    """Name of the disturbance, and of its streams."""

    def __init__(self, env: DuelVectorEnv | LabelWrapper) -> None:
        if not isinstance(env, DuelVectorEnv | LabelWrapper):
            raise UserError(
                f"{type(self).__name__} wraps a vector environment of duelenv or another of its wrappers, got {env}; "
                "make one with gymnasium.make_vec"
            )
        super().__init__(env)
        self._inner = env
        self._world: DuelVectorEnv = env if isinstance(env, DuelVectorEnv) else env._world
        self._purpose = f"wrappers/{self.kind}/{_count(env, self.kind)}"
        self._root: int | None = None
        self._round = 0
        self._streams: RowStreams
        self._forget()

    # What a disturbance is made of -----------------------------------------------------------------------------------

    def _mark(self, info: Mapping[str, Any]) -> Marks:
        """Return this round's marks, float64 [N]: by default a uniform of each row."""
        marks: Marks = self._streams.uniform()
        return marks

    @abstractmethod
    def _pass_on(self, answers: Answers, marks: Marks, last: bool) -> Answers:
        """Return what leaves the wrapper in this step.

        Args:
            answers: What reached it in this step.
            marks: The mark of each answer's round and row, float64 [M].
            last: Whether this is the last round of the episode.
        """

    def _lost(self, marks: Marks) -> NDArray[np.bool_]:
        """Tell which rows of a round with these marks never get their label."""
        return np.zeros(len(marks), np.bool_)

    def _redraw(self, root: int) -> None:
        """Start everything that lasts from one seeded reset to the next."""
        self._streams = RowStreams(root, self._purpose, self.num_envs)

    def _forget(self) -> None:
        """Drop everything that belongs to an episode."""
        self._keys = np.zeros(0, np.int64)
        self._kept = np.zeros(0)

    # The contract ----------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; labels of the last one that did not come are lost. See `DuelVectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        root = self._world.root
        if seed is not None or root != self._root:
            self._root = root
            self._redraw(root)
        self._round = 0
        self._forget()
        return observation, info

    def step(self, actions: Any) -> tuple[Any, Labels, Any, Any, dict[str, Any]]:
        """Let the chosen pairs duel; see `DuelVectorEnv.step` and the class."""
        observation, labels, terminated, truncated, info = self.env.step(actions)
        now, last = self._round, bool(np.all(truncated))
        late: Answers = info.get("late", no_answers())
        coming: NDArray[np.bool_] = info.get("pending", np.zeros(self.num_envs, np.bool_))
        marks = self._mark(info)
        answered = ~np.isnan(labels)
        rows = np.flatnonzero(answered)
        fresh = Answers(np.full(len(rows), now), rows, labels[rows])
        passed = self._pass_on(late.then(fresh), np.concatenate([self._recall(late), marks[rows]]), last)
        self._remember(np.flatnonzero(coming), marks)
        in_time = passed.round == now
        told = np.full(self.num_envs, np.nan)
        told[passed.row[in_time]] = passed.label[in_time]
        info["round"] = now
        info["late"] = passed.take(~in_time).in_order()
        info["pending"] = (coming | answered) & np.isnan(told) & ~self._lost(marks) & (not last)
        self._round += 1
        return observation, told, terminated, truncated, info

    def view(self) -> AgentView:
        """Return what an agent may know of this environment: what it may know of the world."""
        return self._world.view()

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Judge an agent by the truth; see `DuelVectorEnv.evaluate`."""
        return self._world.evaluate(agent, split)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here, the world's state included."""
        return {
            "env": self._inner.state_dict(),
            "round": self._round,
            "streams": self._streams.state_dict(),
            "keys": self._keys.copy(),
            "kept": self._kept.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Continue where `state_dict` was taken, in an environment wrapped alike; return the current observation."""
        observation = self._inner.load_state_dict(state["env"])
        self._root = self._world.root
        self._redraw(self._root)
        self._forget()
        self._streams.load_state_dict(state["streams"])
        self._round = int(state["round"])
        self._keys = np.array(state["keys"], np.int64)
        self._kept = np.array(state["kept"], np.float64)
        return observation

    # Marks of rounds whose answers an inner wrapper still holds ------------------------------------------------------

    def _remember(self, rows: NDArray[np.int64], marks: Marks) -> None:
        if len(rows):
            # By round and row: sorted, because rounds only grow.
            self._keys = np.concatenate([self._keys, self._round * self.num_envs + rows])
            self._kept = np.concatenate([self._kept, marks[rows]])

    def _recall(self, late: Answers) -> Marks:
        if not len(late.row):
            return np.zeros(0)
        places = np.searchsorted(self._keys, late.round * self.num_envs + late.row)
        marks = self._kept[places]
        self._keys, self._kept = np.delete(self._keys, places), np.delete(self._kept, places)
        return marks


class HoldingWrapper(LabelWrapper):
    """A wrapper that lets answers out in a later round than they reached it.

    Args:
        env: See `LabelWrapper`.
        deliver_rest: Whether answers still held in the last round of an episode leave with it; they are lost otherwise.
    """

    def __init__(self, env: DuelVectorEnv | LabelWrapper, deliver_rest: bool) -> None:
        self._held: Answers
        self._due_rounds: NDArray[np.int64]
        super().__init__(env)
        self._deliver_rest = checks.flag("deliver_rest", deliver_rest)

    @abstractmethod
    def _due(self, answers: Answers, marks: Marks) -> NDArray[np.int64]:
        """Return the round with which each of the answers that came now may leave, int64 [M]."""

    def _pass_on(self, answers: Answers, marks: Marks, last: bool) -> Answers:
        held = self._held.then(answers)
        due = np.concatenate([self._due_rounds, self._due(answers, marks)])
        leaving = due <= self._round
        if last and self._deliver_rest:
            leaving[:] = True
        self._held, self._due_rounds = held.take(~leaving), due[~leaving]
        return held.take(leaving)

    def _forget(self) -> None:
        super()._forget()
        self._held = no_answers()
        self._due_rounds = np.zeros(0, np.int64)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"held": self._held._asdict(), "due": self._due_rounds.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        observation = super().load_state_dict(state)
        self._held = Answers(**{name: np.array(state["held"][name]) for name in Answers._fields})
        self._due_rounds = np.array(state["due"], np.int64)
        return observation


def _count(env: DuelVectorEnv | LabelWrapper, kind: str) -> int:
    """Return how many wrappers of a kind there are already."""
    count = 0
    while isinstance(env, LabelWrapper):
        count += env.kind == kind
        env = env._inner
    return count
