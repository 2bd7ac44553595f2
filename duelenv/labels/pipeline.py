"""The stages of a world in order, with what they hold and the numbers they draw; no disturbance of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RoundUniforms
from duelenv.labels.stage import Clock, Passing, Stage


class Pipeline:
    """What labels pass between the source and the agent.

    Args:
        stages: In the order in which labels pass them; the pipeline owns them.
        rows: Rows N of the world.
        batch: Rows of a replicate.

    Attributes:
        holds: Whether a label may come out in a later round than it went in.
        num_streams: How many of the stages draw, S.
    """

    def __init__(self, stages: Sequence[Stage], rows: int, batch: int) -> None:
        self._stages = tuple(stages)
        self._rows = rows
        self._batch = batch
        self.holds = any(stage.holds for stage in stages)
        drawing = [number for number, stage in enumerate(stages) if stage.draws]
        self._columns = {number: column for column, number in enumerate(drawing)}
        self._purposes = [
            # The second stage of a kind has a stream of its own. The streams keep the name they had in version 0.1.
            f"wrappers/{stages[number].kind}/{Counter(stage.kind for stage in stages[:number])[stages[number].kind]}"
            for number in drawing
        ]
        self.num_streams = len(drawing)
        self._streams: list[RoundUniforms] = []
        self._held: dict[int, Passing] = {}
        self._due: dict[int, NDArray[np.int64]] = {}
        self.forget()

    def __bool__(self) -> bool:
        return bool(self._stages)

    def restart(self, root: int) -> None:
        """Start anew after a seeded reset."""
        self._streams = [RoundUniforms(root, purpose, self._rows) for purpose in self._purposes]
        for stage in self._stages:
            stage.start(self._rows // self._batch, self._batch)
        self.forget()

    def forget(self) -> None:
        """Drop every label that is still held."""
        holding = [number for number, stage in enumerate(self._stages) if stage.holds]
        self._held = {number: no_labels(self.num_streams) for number in holding}
        self._due = {number: np.zeros(0, np.int64) for number in holding}

    def uniforms(self, number: int) -> NDArray[np.float64]:
        """Return the stages' numbers for every row of a round, float64 [N, S]."""
        if not self._streams:
            return np.zeros((self._rows, 0))
        return np.stack([streams.at(number) for streams in self._streams], axis=1)

    def doomed(self, uniforms: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which labels with these numbers [M, S] will be lost on the way, bool [M]."""
        doomed = np.zeros(len(uniforms), np.bool_)
        for number, stage in enumerate(self._stages):
            lost = self._lost(number, stage, uniforms)
            if lost is not None:
                doomed |= lost
        return doomed

    def run(self, passing: Passing, clock: Clock) -> Passing:
        """Send labels in and return those that come out in this step, by round and row."""
        passing = passing.in_order()
        for number, stage in enumerate(self._stages):
            passing = self._altered(stage, passing, self._own(number, passing.uniforms), clock)
            lost = self._lost(number, stage, passing.uniforms)
            if lost is not None:
                passing = passing.take(~lost)
            if stage.holds:
                passing = self._released(number, stage, passing, clock)
        return passing

    def _lost(self, number: int, stage: Stage, uniforms: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        lost = stage.lose(self._own(number, uniforms))
        if lost is not None and (np.shape(lost) != (len(uniforms),) or np.asarray(lost).dtype != np.bool_):
            raise UserError(
                f"'lose' of stage {stage.kind!r} returned {str(lost)[:60]!r} for {len(uniforms)} labels, expected as "
                "many times true or false; set draws = True where it reads its uniforms"
            )
        return lost

    def _altered(self, stage: Stage, passing: Passing, own: NDArray[np.float64], clock: Clock) -> Passing:
        def complain(what: str) -> UserError:
            return UserError(
                f"stage {stage.kind!r} made {what} of {len(passing)} labels, expected as many numbers in [0, 1]; lose "
                "labels in 'lose' and hold them back by 'due'"
            )

        altered = stage.alter(passing, own, clock)
        if altered is passing.label:
            return passing
        label = checks.real_array(altered, complain)
        if label.shape != passing.label.shape or not ((label >= 0.0) & (label <= 1.0)).all():
            raise complain(str(label)[:60])
        return replace(passing, label=label)

    def _released(self, number: int, stage: Stage, passing: Passing, clock: Clock) -> Passing:
        held = self._held[number].then(passing)
        rounds = np.asarray(stage.due(passing, self._own(number, passing.uniforms), clock))
        if rounds.shape != (len(passing),) or (rounds.dtype.kind not in "iu" and len(passing)):
            raise UserError(
                f"'due' of stage {stage.kind!r} returned {str(rounds)[:60]!r} for {len(passing)} labels, expected as "
                "many whole numbers of rounds"
            )
        due = np.concatenate([self._due[number], rounds.astype(np.int64)])
        leaving = due <= clock.now
        if clock.last and stage.deliver_rest:
            leaving[:] = True
        self._held[number], self._due[number] = held.take(~leaving), due[~leaving]
        return held.take(leaving).in_order()

    def _own(self, number: int, uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one stage's column of [M, S]; empty where it does not draw."""
        column = self._columns.get(number)
        return np.zeros(0) if column is None else uniforms[:, column]

    def figures(self) -> dict[str, Any]:
        """Return what the stages say in `info`."""
        total: dict[str, Any] = {}
        for stage in self._stages:
            for name, value in stage.figures().items():
                total[name] = total[name] + value if name in total else value
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return what is held and what the stages remember."""
        return {
            "stages": [stage.state_dict() for stage in self._stages],
            "held": [_plain(self._held[number]) | {"due": self._due[number].copy()} for number in sorted(self._held)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, after `restart` with the same root."""
        for stage, saved in zip(self._stages, state["stages"], strict=True):
            stage.load_state_dict(saved)
        for number, saved in zip(sorted(self._held), state["held"], strict=True):
            self._held[number] = Passing(**{item.name: np.array(saved[item.name]) for item in fields(Passing)})
            self._due[number] = np.array(saved["due"], np.int64)


def no_labels(num_streams: int) -> Passing:
    """Return no labels at all."""
    return Passing(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros((0, num_streams)))


def _plain(passing: Passing) -> dict[str, NDArray[Any]]:
    return {item.name: getattr(passing, item.name).copy() for item in fields(Passing)}
