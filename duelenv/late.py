"""Labels that come later than their round: the records they come as, and how they reach an agent's `update`.

A wrapper such as `duelenv.wrappers.Delay` holds labels back. `step` then returns NaN for a row without an answer, and
the answer itself in `info["late"]` of the step at which it arrives, as public records `Answers` of (round, row, label).
An agent learns from (observation, actions, labels); `LateLabels` remembers the observations and actions of the rounds
that wait for labels and makes those calls from the records. It is not for holding labels back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.observation import LazyObservation

Observation = Mapping[str, Any]


class Answers(NamedTuple):
    """M labels, each with the duel that it answers.

    Attributes:
        round: Round in which the duel was fought, from 0 in every episode, int64 [M].
        row: Its row, int64 [M].
        label: float64 [M] in [0, 1].
    """

    round: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.float64]

    def take(self, which: NDArray[Any]) -> Answers:
        """Return the answers that a mask or an index array names."""
        return Answers(self.round[which], self.row[which], self.label[which])

    def then(self, others: Answers) -> Answers:
        """Return these answers followed by others."""
        return Answers(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))

    def in_order(self) -> Answers:
        """Return them by round and then by row."""
        return self.take(np.lexsort((self.row, self.round)))


def no_answers() -> Answers:
    """Return an empty record."""
    return Answers(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class UpdateCall(NamedTuple):
    """Arguments of one call of `agent.update`.

    Attributes:
        observation: What was seen in the rounds of the labelled rows.
        actions: What was played there, int64 [N, 2] or [N, 3].
        labels: float64 [N], NaN in rows that have no answer in this call.
    """

    observation: Observation
    actions: Any
    labels: Any


class LateLabels:
    """Makes the calls of `agent.update` that a step asks for, late labels included; serves any environment of duelenv.

    Every label is given exactly once, with the observation and action of its own round. Late labels go before the
    round's own, older rounds before newer ones within each row. Several rounds share a call where their rows differ, so
    that a step needs about as many calls as its busiest row has labels. The round's own call is always the last, even
    where none of its labels came: an agent may count on it. Observations are kept only while a label may still come.

    Example:
        >>> import gymnasium, duelenv.agents
        >>> from duelenv.wrappers import Delay
        >>> env = Delay(gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=4, horizon=20), mean=3.0)
        >>> agent = duelenv.agents.make("thompson", env, seed=0)
        >>> late = LateLabels()
        >>> observation, info = env.reset(seed=0)
        >>> for _ in range(20):
        ...     actions = agent.act(observation)
        ...     following, labels, _, _, info = env.step(actions)
        ...     for call in late.calls(observation, actions, labels, info):
        ...         metrics = agent.update(*call)
        ...     observation = following
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Round] = {}

    def calls(self, observation: Observation, actions: Any, labels: Any, info: Mapping[str, Any]) -> list[UpdateCall]:
        """Return the calls of `update` after a step, in order.

        Args:
            observation: What the agent saw before the step.
            actions: What it chose.
            labels: The labels that the step returned.
            info: The info that the step returned.
        """
        own = UpdateCall(observation, actions, labels)
        if "late" not in info:
            return [own]
        now = int(info["round"])
        if now == 0:
            self._waiting.clear()  # what did not come before its episode's end is lost
        calls = self._late_calls(info["late"], scalar=np.ndim(labels) == 0)
        left = int(np.sum(info["pending"]))
        if left:
            # Drawn now: what is made on first reading would otherwise be made under a later policy.
            self._waiting[now] = _Round(dict(observation), np.array(actions), left)
        return [*calls, own]

    def _late_calls(self, answers: Answers, scalar: bool) -> list[UpdateCall]:
        if not len(answers.row):
            return []
        calls = []
        ranks = _rank_in_row(answers.row)
        for rank in range(int(ranks.max()) + 1):
            part = answers.take(ranks == rank)
            numbers, starts = np.unique(part.round, return_index=True)  # answers come sorted by round
            sources = [self._waiting[number] for number in numbers.tolist()]
            if scalar:
                calls.append(UpdateCall(sources[0].observation, sources[0].actions, float(part.label[0])))
                continue
            rows = np.split(part.row, starts[1:])
            actions = _gather([source.actions for source in sources], rows)
            labels = np.full(len(actions), np.nan)
            labels[part.row] = part.label
            calls.append(UpdateCall(_rows_of([source.observation for source in sources], rows), actions, labels))
        for number, count in zip(*(counts.tolist() for counts in np.unique_counts(answers.round)), strict=True):
            self._waiting[number].left -= count
            if self._waiting[number].left == 0:
                del self._waiting[number]
        return calls

    def state_dict(self) -> dict[str, Any]:
        """Return the rounds that wait for labels."""
        return {
            "rounds": list(self._waiting),
            "left": [waiting.left for waiting in self._waiting.values()],
            "actions": [waiting.actions for waiting in self._waiting.values()],
            "observations": [dict(waiting.observation) for waiting in self._waiting.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        columns = zip(state["rounds"], state["observations"], state["actions"], state["left"], strict=True)
        self._waiting = {
            int(number): _Round(observation, np.array(actions), int(left))
            for number, observation, actions, left in columns
        }


class _Round:
    """A round whose labels did not all come yet."""

    def __init__(self, observation: Observation, actions: NDArray[np.int64], left: int) -> None:
        self.observation = observation
        self.actions = actions
        self.left = left


def _rank_in_row(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many earlier entries hold the same row, int64 [M]."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return ranks


def _gather(arrays: Sequence[NDArray[Any]], rows: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return `arrays[0]` with the rows of every array put in their places."""
    merged = np.array(arrays[0])
    for array, chosen in zip(arrays[1:], rows[1:], strict=True):
        merged[chosen] = array[chosen]
    return merged


def _rows_of(observations: Sequence[Observation], rows: Sequence[NDArray[np.int64]]) -> Observation:
    """Return one observation with the rows of several; a value is put together when it is first read."""
    if len(observations) == 1:
        return observations[0]

    def merged(key: str) -> Callable[[], NDArray[Any]]:
        return lambda: _gather([observation[key] for observation in observations], rows)

    return LazyObservation({key: merged(key) for key in observations[0]})
