"""Labelled pairs as a policy is taught them, how many steps they are worth, and old ones again; no optimiser here.

Steps follow labels and not calls. A label carries `gradient_steps` / (labels asked for in its round) of a step,
whenever it arrives; whole steps are taken as soon as there are any, and the rest waits. So the same labels make the
same number of steps under every delay, and a label that is lost takes its share along.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.randomness import stream


@dataclass(frozen=True)
class Lesson:
    """M labelled pairs, in the tokens that were shown.

    Attributes:
        prompts: object [M].
        tokens: int64 [M, J, L]: first and second response of the pair, and behind them what a bonus looks at besides.
        mask: int8 [M, J, L].
        labels: float64 [M]; NaN where both responses are the same text, which teaches nothing.
        bonus: int64 [M, B], which of the J responses a bonus is taken over, one as often as it was drawn; None without
            a bonus. Columns of a row beyond the pair that are not named here fill up its length, and mean nothing.
    """

    prompts: NDArray[np.object_]
    tokens: NDArray[np.int64]
    mask: NDArray[np.int8]
    labels: NDArray[np.float64]
    bonus: NDArray[np.int64] | None = None

    @classmethod
    def with_draws(
        cls,
        prompts: NDArray[np.object_],
        pairs: tuple[NDArray[np.int64], NDArray[np.int8]],
        labels: NDArray[np.float64],
        draws: tuple[NDArray[np.int64], NDArray[np.int8]],
    ) -> Lesson:
        """Put pairs and what a bonus is taken over together, so that no response has to be run twice.

        What counts as the same is the same tokens: then one log-prob is that of both. Equal texts of different tokens
        stay apart, and every draw keeps its weight in the mean.

        Args:
            prompts: object [M].
            pairs: Tokens and mask [M, 2, L].
            labels: [M].
            draws: Tokens and mask [M, B, L].
        """
        tokens = np.concatenate([pairs[0], draws[0]], axis=1)
        mask = np.concatenate([pairs[1], draws[1]], axis=1)
        rows, count, length = tokens.shape
        said = np.where(mask == 1, tokens, -1).reshape(-1, length)
        number = np.unique(said, axis=0, return_inverse=True)[1].reshape(rows, count)
        first = (number[:, :, np.newaxis] == number[:, np.newaxis]).argmax(2)  # the first column of these tokens
        first[:, :2] = 0, 1  # the pair stays one of two, whatever it says
        kept = first == np.arange(count)
        columns = np.argsort(~kept, axis=1, kind="stable")[:, : kept.sum(1).max()]
        place = kept.cumsum(1) - 1
        each = np.arange(rows)[:, np.newaxis]
        return cls(prompts, tokens[each, columns], mask[each, columns], labels, place[each, first[:, 2:]])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: Any) -> Lesson:
        """Return the pairs that a slice or an index array names."""
        each = Lesson(*(value[which] for value in self.columns()))
        if each.bonus is None:
            return each
        width = max(2, int(each.bonus.max(initial=0)) + 1)
        return Lesson(each.prompts, each.tokens[:, :width], each.mask[:, :width], each.labels, each.bonus)

    @property
    def alike(self) -> int:
        """How many pairs are of one text."""
        return int(np.isnan(self.labels).sum())

    def then(self, other: Lesson) -> Lesson:
        """Return these pairs followed by others."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        columns = zip(self.columns(width), other.columns(width), strict=True)
        return Lesson(*(np.concatenate(pair) for pair in columns))

    def columns(self, width: int | None = None) -> tuple[NDArray[Any], ...]:
        """Return prompts, tokens, mask, labels and the bonus where there is one.

        Args:
            width: Responses of a row, the first one again where there are fewer; None for as many as there are.
        """
        tokens, mask = self.tokens, self.mask
        if width is not None and width > tokens.shape[1]:
            filled = np.arange(width)
            filled[tokens.shape[1] :] = 0
            tokens, mask = tokens[:, filled], mask[:, filled]
        bonus = () if self.bonus is None else (self.bonus,)
        return (self.prompts, tokens, mask, self.labels, *bonus)


def _packed(lesson: Lesson | None) -> dict[str, Any] | None:
    if lesson is None:
        return None
    return {name: value.copy() for name, value in vars(lesson).items() if value is not None}


def _unpacked(values: Mapping[str, Any] | None) -> Lesson | None:
    if values is None:
        return None
    arrays: dict[str, Any] = {name: np.array(value) for name, value in values.items() if value is not None}
    return Lesson(**arrays)


@dataclass(frozen=True)
class ReplaySettings:
    """How often the oracle's labels are taught.

    Attributes:
        replay: Old duels that are taught again beside the new ones of each step, drawn anew for each of them from all
            that were taught before; 0 teaches every label in its own round only. Steps stay as many.
    """

    replay: int = 0

    def __post_init__(self) -> None:
        checks.integer("replay", self.replay, low=0)


class OldLessons:
    """Everything that a learner was taught, drawn from uniformly; it grows with the labels.

    A pair takes 5 bytes for each token of its responses, padding included, and 16 more; room is made for up to twice
    as many.

    Args:
        count: Old pairs beside each new lesson, as far as there are so many.
        root: Root of the stream that draws them.

    Attributes:
        count: As given.
    """

    def __init__(self, count: int, root: int) -> None:
        self.count = count
        self._generator = stream(root, "agents/replay")
        self._held: Lesson | None = None  # of which the first `_known` pairs are there
        self._known = 0

    def beside(self, lesson: Lesson) -> Lesson:
        """Return a new lesson followed by old pairs, each at most once."""
        drawn = np.sort(self._generator.choice(self._known, min(self.count, self._known), replace=False))
        return lesson if self._held is None or not len(drawn) else lesson.then(self._held.take(drawn))

    def hold(self, lesson: Lesson) -> None:
        """Make a lesson that was taught an old one."""
        first, self._known = self._known, self._known + len(lesson)
        held = lesson if self._held is None else self._held
        width = max(held.tokens.shape[1], lesson.tokens.shape[1])
        if self._held is None or len(held) < self._known or held.tokens.shape[1] < width:
            room = len(held) if self._held is not None and len(held) >= self._known else 2 * self._known
            held = self._held = _with_room(held, room, width)
        for kept, new in zip(held.columns(), lesson.columns(width), strict=True):
            kept[first : self._known] = new

    def state_dict(self) -> dict[str, Any]:
        """Return all pairs as arrays, and the stream."""
        held = None if self._held is None else self._held.take(slice(self._known))
        return {
            "lesson": _packed(held),
            "generator": copy.deepcopy(self._generator.bit_generator.state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._held = _unpacked(state["lesson"])
        self._known = 0 if self._held is None else len(self._held)
        self._generator.bit_generator.state = copy.deepcopy(state["generator"])


def _with_room(lesson: Lesson, count: int, width: int) -> Lesson:
    """Return pairs of `width` responses with empty places behind, `count` in all; tokens in 32 bits, which hold any."""

    def longer(values: NDArray[Any]) -> NDArray[Any]:
        kind = np.dtype(np.int32) if values.dtype == np.int64 else values.dtype
        wide = np.zeros((count, *values.shape[1:]), kind)
        wide[: len(values)] = values
        return wide

    return Lesson(*(longer(values) for values in lesson.columns(width)))


class WaitingLessons:
    """Lessons that have not made a whole step yet, in order of round and row."""

    def __init__(self) -> None:
        self._lesson: Lesson | None = None
        self._places: NDArray[np.int64] = np.zeros((0, 2), np.int64)  # round and row of each
        self._shares: list[Fraction] = []
        self._surplus = Fraction(0)  # what a step's labels were worth beyond it

    def __len__(self) -> int:
        return len(self._shares)

    def add(
        self, lesson: Lesson, rounds: NDArray[np.int64], rows: NDArray[np.int64], shares: Sequence[Fraction]
    ) -> None:
        """Let lessons wait.

        Args:
            lesson: M labelled pairs.
            rounds: Number of the round of each, [M].
            rows: Its row, [M].
            shares: What each is worth, in optimiser steps.
        """
        if not len(lesson):
            return
        whole = lesson if self._lesson is None else self._lesson.then(lesson)
        places = np.concatenate([self._places, np.column_stack([rounds, rows])])
        order = np.lexsort((places[:, 1], places[:, 0]))
        self._lesson, self._places = whole.take(order), places[order]
        every = [*self._shares, *shares]
        self._shares = [every[place] for place in order.tolist()]

    def whole_steps(self, at_most: int) -> Iterator[tuple[int, Lesson]]:
        """Take out, again and again, a number of whole steps and the consecutive labels that are worth them.

        Labels wait on until the next ones are asked for, so that those of a step that failed are not lost.

        Args:
            at_most: Steps on the same labels: those that a round's labels are worth together.
        """
        while True:
            steps = min(at_most, int(self._surplus + sum(self._shares, Fraction(0))))
            if steps == 0:
                return
            worth, count = self._surplus, 0
            while worth < steps:
                worth += self._shares[count]
                count += 1
            assert self._lesson is not None
            lesson = self._lesson.take(slice(count))
            yield steps, lesson
            rest = slice(count, None)
            self._surplus = worth - steps
            self._shares, self._places = self._shares[rest], self._places[rest]
            self._lesson = self._lesson.take(rest) if self._shares else None

    def state_dict(self) -> dict[str, Any]:
        """Return what waits, in arrays and lists of numbers."""
        return {
            "lesson": _packed(self._lesson),
            "places": self._places.copy(),
            "shares": [[share.numerator, share.denominator] for share in self._shares],
            "surplus": [self._surplus.numerator, self._surplus.denominator],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._lesson = _unpacked(state["lesson"])
        self._places = np.array(state["places"], np.int64).reshape(-1, 2)
        self._shares = [Fraction(*pair) for pair in state["shares"]]
        self._surplus = Fraction(*state["surplus"])
