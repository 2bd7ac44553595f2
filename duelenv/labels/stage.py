"""What a stage is: a disturbance of labels on their way to the agent; and the registry of stages. No disturbance here.

A stage may alter a label, lose it, or hold it back. What it decides depends on the round and row in which the duel was
fought and on nothing that other stages do, so stages compose in any order, and flips and delays commute. One file with
one class makes a new one:

    @register_stage("shy")
    class Shy(Stage):
        kind = "shy"
        draws = True

        def lose(self, uniforms):
            return uniforms < 0.1

and `gymnasium.make_vec(world, stages=["shy"])` or `stages: [shy]` in a config puts it in the way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry


class Clock(NamedTuple):
    """When labels pass a stage.

    Attributes:
        now: Number of the round that is played, from 0 at the last seeded reset.
        start: Number of the first round of the episode.
        last: Whether this is the episode's last round.
    """

    now: int
    start: int
    last: bool


@dataclass(frozen=True)
class Passing:
    """M labels on their way, by round and row.

    Attributes:
        round: Number of the round in which the duel was fought, int64 [M].
        row: Its row, int64 [M].
        label: float64 [M] in [0, 1].
        margin: P(first preferred) - P(second preferred), float64 [M], for adversaries that see the truth.
        uniforms: One number of each stage that draws, U[0, 1), float64 [M, S]: drawn with the round, whatever happens.
    """

    round: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.float64]
    margin: NDArray[np.float64]
    uniforms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[Any]) -> Passing:
        """Return the labels that a mask or an index array names."""
        return Passing(self.round[which], self.row[which], self.label[which], self.margin[which], self.uniforms[which])

    def then(self, others: Passing) -> Passing:
        """Return these labels followed by others."""
        if not len(self):
            return others
        if not len(others):
            return self
        return Passing(
            np.concatenate([self.round, others.round]),
            np.concatenate([self.row, others.row]),
            np.concatenate([self.label, others.label]),
            np.concatenate([self.margin, others.margin]),
            np.concatenate([self.uniforms, others.uniforms]),
        )

    def in_order(self) -> Passing:
        """Return them by round and then by row."""
        if (self.round[1:] == self.round[:-1]).all() and (self.row[1:] > self.row[:-1]).all():
            return self
        return self.take(np.lexsort((self.row, self.round)))


class Stage:
    """A disturbance of labels; by default none.

    A subclass overrides what it does: `alter`, `lose` or `due`. Its constructor takes and checks its settings. A world
    works on a copy of its own, so one stage object may be given to several worlds; what a stage remembers (a budget,
    say) it starts anew in `start` and gives and takes in `state_dict` and `load_state_dict`.
    """

    kind: ClassVar[str]
    """Its name, also the purpose of its draws."""
    draws: ClassVar[bool] = False
    """Whether it is given a uniform number for every round and row."""
    holds: ClassVar[bool] = False
    """Whether a label may leave in a later round than it came."""
    deliver_rest: bool = False
    """Whether labels that are still held in the last round of an episode leave with it; they are lost otherwise."""

    def start(self, replicates: int, batch: int) -> None:
        """Forget everything: there was a seeded reset.

        Args:
            replicates: R; row n belongs to replicate n // batch.
            batch: Rows of a replicate.
        """

    def alter(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.float64]:
        """Return what the labels become, float64 [M] in [0, 1].

        Args:
            passing: The labels that came to the stage in this step, by round and row.
            uniforms: This stage's number of each, [M]; empty where it does not draw.
            clock: When.
        """
        return passing.label

    def lose(self, uniforms: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Tell which labels never get past the stage, bool [M], from its numbers alone; None for none.

        From those alone, because a label that will be lost is not pending even while somebody still holds it.
        """
        return None

    def due(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.int64]:
        """Return the number of the round with which each label may leave, int64 [M]; read where the stage `holds`."""
        return np.full(len(passing), clock.now)

    def figures(self) -> dict[str, Any]:
        """Return what goes into `info`, for people and not for agents; equal names of several stages are added."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, plain numbers and arrays only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


# The registry ---------------------------------------------------------------------------------------------------------

#: Nothing here imports a disturbance.
STAGES: Registry[Callable[..., Stage]] = Registry(
    "stage",
    {
        "adversarial_delay": "duelenv.disturbances.adversarial_delay:AdversarialDelay",
        "batching": "duelenv.disturbances.batching:Batching",
        "corruption": "duelenv.disturbances.corruption:Corruption",
        "delay": "duelenv.disturbances.delay:Delay",
        "flip": "duelenv.disturbances.flip:Flip",
        "missing": "duelenv.disturbances.missing:Missing",
    },
)

_EXPECTED = "expected a list such as [{name: flip, probability: 0.1}, {name: delay, mean: 20}]"

register_stage = STAGES.register


def stage_names() -> list[str]:
    """Return the names of all registered stages, sorted."""
    return list(STAGES.names())


def make_stage(name: str, **settings: Any) -> Stage:
    """Make a stage by its name.

    Args:
        name: One of `stage_names()`.
        **settings: Its own.

    Raises:
        UserError: An unknown name or setting, one that is missing, or a value out of range.

    Example:
        >>> make_stage("flip", probability=0.1).probability
        0.1
    """
    stage: Stage = STAGES.make(name, settings)
    return stage


def read_stages(given: object) -> tuple[Stage, ...]:
    """Return fresh stages from what a user gave as `stages`, in the order in which labels pass them.

    Args:
        given: A sequence of `Stage` objects, names, and mappings with a name and its settings; None for none.

    Raises:
        UserError: It is no such sequence, or an unknown stage or setting.
    """
    if given is None:
        return ()
    if isinstance(given, str | Stage | Mapping) or not isinstance(given, Sequence):
        raise UserError(f"stages is {given!r}, {_EXPECTED}")
    stages = tuple(_read_stage(item) for item in given)
    for stage in stages:
        if not isinstance(stage, Stage) or not isinstance(getattr(stage, "kind", None), str):
            raise UserError(f"stages holds {stage!r}, expected a Stage with a name; give its class a 'kind'")
    return stages


def _read_stage(item: object) -> Stage:
    if isinstance(item, Stage):
        return copy.deepcopy(item)
    named = {"name": item} if isinstance(item, str) else item
    if not isinstance(named, Mapping) or not all(isinstance(key, str) for key in named):
        raise UserError(f"stages holds {item!r}, {_EXPECTED}")
    settings = dict(named)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"stages holds {item!r} without a name: {checks.choices('', STAGES)}")
    return make_stage(name, **settings)
