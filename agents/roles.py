"""The roles in an agent: who selects the pair, who moves the policy and what they are told. No part is here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Metrics
from duelenv.agents.pieces import Piece
from duelenv.core import AgentView, Labels, Observation, Pairs

if TYPE_CHECKING:
    from duelenv.agents.set_losses import SetLoss


class Ranked(NamedTuple):
    """Pairs with what an ask rule makes of them, so that rows can be compared.

    Attributes:
        pairs: int64 [N, 2].
        worth: The larger, the more the row's duel deserves a label, in units of the rule, float [N]; None from a rule
            that does not compare rows.
    """

    pairs: Pairs
    worth: NDArray[np.floating[Any]] | None = None

    @classmethod
    def of(cls, chosen: Pairs | Ranked) -> Ranked:
        """Return what a selection rule returned as this."""
        return chosen if isinstance(chosen, Ranked) else cls(chosen)


class Select(Protocol):
    """A selection rule bound to what it needs.

    It gets the observation and `groups` int64 [N, K], in which candidates with the same text share a number, or None
    where playing a candidate against itself is legal; it returns pairs int64 [N, 2], perhaps with their worth.
    """

    def __call__(self, observation: Observation, groups: NDArray[np.int64] | None) -> Pairs | Ranked: ...


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

    @property
    def replayed(self) -> int:
        """Old pairs beside each lesson, at most."""
        ...

    def teach_sets(self, observation: Observation, sets: Sets) -> Metrics:
        """Take a round's steps on sets of responses."""
        ...


class Stateful(Protocol):
    """Anything whose state belongs into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> None: ...


class Listener(Stateful, Protocol):
    """A part of an ask rule that remembers which duels were labelled."""

    def hear(self, pieces: Sequence[Piece]) -> None:
        """Hear what came in one call of `update`, while belief and policy are still what they were."""
        ...


def equal_texts(view: AgentView, observation: Observation) -> NDArray[np.int64] | None:
    """Give equal texts equal numbers, int64 [N, K], those of the first candidate with the text: may they not meet.

    None in worlds where a candidate may be played against itself, `AgentView.self_duels`.
    """
    if view.self_duels:
        return None
    if "responses" not in observation:
        return np.tile(np.arange(view.num_candidates), (len(observation["features"]), 1))
    first: dict[str, int] = {}
    numbers = []
    for texts in observation["responses"].tolist():
        first.clear()
        numbers.append([first.setdefault(text, number) for number, text in enumerate(texts)])
    return np.array(numbers, np.int64)


def with_sources(view: AgentView, **wanted: int) -> str:
    """Write the setting that gives a world candidates from where they are wanted besides those it has, for messages.

    Args:
        view: The world's.
        **wanted: How many at least come from each source, by name.
    """
    counts = dict(zip(view.sources, view.source_counts, strict=True))
    counts |= {source: max(count, counts.get(source, 0)) for source, count in wanted.items()}
    return f"sources={counts}"
