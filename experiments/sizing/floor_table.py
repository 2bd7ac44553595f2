"""The floor of a round as text: phases and what bounds each, memory, and the pace of separate nodes."""

from __future__ import annotations

import math

from duelenv.experiments.sizing.floors import Floor
from duelenv.experiments.sizing.machines import Machine
from duelenv.experiments.sizing.memory import bytes_text
from duelenv.experiments.sizing.pace import pace_of
from duelenv.ground.terminal import printable

__all__ = ["floor_text", "seconds_text"]


def floor_text(floor: Floor) -> str:
    """Return what `duelenv floor` prints.

    Args:
        floor: Of any round.

    Returns:
        Several lines.
    """
    parts = [_head(floor), _phases(floor), _memory(floor)]
    if floor.trainers is not None:
        parts.append(_pace(floor))
    return "\n\n".join("\n".join(part) for part in parts)


def _head(floor: Floor) -> list[str]:
    shape, work = floor.shape, floor.round
    trains = "all weights" if work.lora is None else f"an adapter of rank {work.lora}"
    again = ", layers run again" if work.checkpointing else ""
    lines = [
        f"{printable(shape.name)}: {shape.parameters:,} weights, {bytes_text(shape.cache_bytes)} of keys and values a "
        "token",
        f"{_many(work.prompts, 'prompt')} of {work.prompt_tokens:,} tokens, "
        f"{_many(work.candidates, 'response')} of {work.response_tokens:,} to each",
        f"{work.agent}: {_many(work.steps, 'step')} on a pair of each prompt, training {trains}{again}",
    ]
    if floor.trainers is None:
        return [*lines, f"{_gpus(floor.machine)}, {_speed(floor.machine)}"]
    return [
        *lines,
        f"{_gpus(floor.machine)} to sample and {floor.trainers.gpus} to train, {_speed(floor.machine)}",
    ]


def _gpus(machine: Machine) -> str:
    many = f"{machine.gpus} {machine.card.name}"
    return many if machine.tensor == 1 else f"{many} in {_many(machine.copies, 'copy', 'copies')} of {machine.tensor}"


def _speed(machine: Machine) -> str:
    reached = "reached" if machine.card.measured else "assumed"
    kind = "published" if machine.published else reached
    return f"{machine.flops / 1e12:.3g} TFLOP/s and {machine.bandwidth / 1e12:.3g} TB/s each ({kind})"


def _phases(floor: Floor) -> list[str]:
    whole = floor.seconds()
    rows = [("seconds", "prompts shared", "repeated", "share", "bound by")]
    rows += [
        (
            phase.name,
            seconds_text(phase.shared.seconds),
            seconds_text(phase.repeated.seconds),
            f"{100 * phase.shared.seconds / whole:.0f} %",
            phase.shared.bound,
        )
        for phase in floor.phases
    ]
    rows.append(("the round", seconds_text(whole), seconds_text(floor.seconds(False)), "100 %", ""))
    return [
        f"{name:<26}{shared:>15}{repeated:>12}{share:>8}   {bound}".rstrip()
        for name, shared, repeated, share, bound in rows
    ]


def _memory(floor: Floor) -> list[str]:
    held = floor.memory
    title = f"memory of a GPU ({bytes_text(held.room)})"
    rows: list[tuple[str, ...]] = [(title, "prompts shared", "repeated")]
    weights = "weights that sample" if held.apart or not held.one_copy else "weights"
    rows.append((weights, bytes_text(held.sampling_weights), ""))
    if weights != "weights":
        rows.append(("weights that train", bytes_text(held.weights), ""))
    for name, size in (
        ("reference", held.reference),
        ("masters in float32", held.masters),
        ("moments", held.moments),
        ("gradients", held.gradients),
        ("activations of a pair", held.activations),
    ):
        if size:
            rows.append((name, bytes_text(size), ""))
    rows.append(("keys and values", bytes_text(held.cache_shared), bytes_text(held.cache_repeated)))
    both = (True, False)
    rows.append(("sampling, in all", *(bytes_text(held.sampling(shared)) for shared in both)))
    rows.append(("  fits", *(_fits(floor, shared) for shared in both)))
    rows.append(("training, in all", bytes_text(held.training), ""))
    rows.append(("  fits", "yes" if held.training <= held.room else "no", ""))
    return [f"{name:<26}{shared:>15}{repeated:>12}".rstrip() for name, shared, repeated in rows]


def _fits(floor: Floor, shared: bool) -> str:
    """Say whether all responses can be drawn at once, or else those to how many prompts."""
    held = floor.memory
    if held.sampling(shared) <= held.room:
        return "yes"
    at_once = held.prompts_at_once(shared)
    return _many(at_once, "prompt") if at_once else "no"


def _pace(floor: Floor) -> list[str]:
    assert floor.trainers is not None
    pace = pace_of(floor)
    network = floor.machine.network / 1e9
    copies = _many(floor.machine.copies, "copy", "copies")
    keeps = "no number of GPUs" if pace.samplers is None else f"{pace.samplers} GPUs"
    rows = [
        ("sampling", f"{seconds_text(floor.sampling())} s", "a round"),
        ("training", f"{seconds_text(floor.training())} s", "a round, with reference"),
        ("transfer", f"{seconds_text(pace.transfer)} s", f"of weights to {copies}, at {network:g} GB/s a GPU"),
        (
            "transfer by one trainer",
            f"{seconds_text(pace.broadcast)} s",
            "the same, all of it to every GPU that samples",
        ),
        ("one after the other", f"{seconds_text(floor.seconds() + pace.transfer)} s", "a round, lag 0"),
        ("side by side", f"{seconds_text(pace.cycle)} s", "a round, lag 1"),
        ("sampling keeps pace with", keeps, "that sample"),
    ]
    return [f"{name:<26}{value:>15}   {what}".rstrip() for name, value, what in rows]


def _many(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def seconds_text(value: float) -> str:
    """Return seconds with three digits, and no more than four decimals."""
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:,.{min(4, max(0, 2 - math.floor(math.log10(value))))}f}"
