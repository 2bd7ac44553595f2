"""How nodes that sample and nodes that train keep up with each other, from sizes alone; nothing is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from duelenv.experiments.sizing.floors import Floor, Round, floor_of
from duelenv.experiments.sizing.machines import Machine
from duelenv.experiments.sizing.shapes import HALF, ModelShape
from duelenv.ground.errors import UserError

__all__ = ["Pace", "pace_of"]

#: Most sampling GPUs that `pace_of` tries.
_MOST_SAMPLERS: Final = 4096


@dataclass(frozen=True)
class Pace:
    """How samplers and trainers keep up with each other, with prompts shared.

    Attributes:
        transfer: Seconds in which the trained weights reach all copies that sample, each GPU's part from the GPUs that
            train it: every link is used.
        broadcast: The same where one trainer gathers the weights, and every GPU that samples takes in all of them.
        cycle: Seconds a round where both work at once, each round trained on while the next one is drawn, with
            `transfer` between two rounds.
        samplers: Fewest GPUs that draw a round as fast as the trainers train on one; None where no number does.
    """

    transfer: float
    broadcast: float
    cycle: float
    samplers: int | None


def pace_of(floor: Floor) -> Pace:
    """Compare the two sides of a floor with trainers.

    Raises:
        UserError: It has none.
    """
    if floor.trainers is None:
        raise UserError("sampling and training have the same GPUs, expected trainers of their own; name them")
    moved = _moved(floor.shape, floor.round)
    transfer = _transfer(moved, floor.machine, floor.trainers)
    cycle = max(floor.sampling(), floor.training()) + transfer
    return Pace(transfer, _broadcast(moved, floor.machine, floor.trainers), cycle, _samplers(floor))


def _moved(shape: ModelShape, work: Round) -> float:
    """Bytes that change with an update."""
    return HALF * (shape.parameters if work.lora is None else shape.adapter(work.lora))


def _transfer(moved: float, machine: Machine, trainers: Machine) -> float:
    """Every sampler takes in its part of a copy, every trainer sends its part once to each copy."""
    taken = moved / machine.tensor / machine.network
    sent = moved * machine.copies / trainers.gpus / trainers.network
    return max(taken, sent)


def _broadcast(moved: float, machine: Machine, trainers: Machine) -> float:
    """One trainer takes in what the others hold while it sends; samplers pass it on among each other."""
    gathered = moved * (trainers.gpus - 1) / trainers.gpus / trainers.collective
    return max(gathered, moved / min(machine.network, trainers.network))


def _samplers(floor: Floor) -> int | None:
    """Try whole copies, one more each time."""
    for gpus in range(floor.machine.tensor, _MOST_SAMPLERS + 1, floor.machine.tensor):
        machine = replace(floor.machine, gpus=gpus)
        if floor_of(floor.shape, floor.round, machine, floor.trainers).sampling() <= floor.training():
            return gpus
    return None
