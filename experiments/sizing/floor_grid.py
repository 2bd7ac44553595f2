"""Floors of several rounds beside each other as text, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duelenv.experiments.sizing.floor_table import seconds_text
from duelenv.experiments.sizing.floors import Floor
from duelenv.experiments.sizing.memory import bytes_text
from duelenv.experiments.sizing.pace import pace_of

__all__ = ["grid_text"]


def grid_text(rows: Sequence[tuple[Mapping[str, str], Floor]]) -> str:
    """Return a table of floors with shared prompts: what tells them apart, seconds of phases, memory of a GPU.

    Args:
        rows: Each floor with the words that were chosen for it, by the same names; those that differ become columns.

    Returns:
        Several lines.
    """
    names = [name for name in rows[0][0] if len({words[name] for words, _ in rows}) > 1]
    cells = [{name: words[name] for name in names} | _figures(floor) for words, floor in rows]
    titles = list(dict.fromkeys(name for row in cells for name in row))
    lines = [titles, *([row.get(title, "") for title in titles] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def _figures(floor: Floor) -> dict[str, str]:
    phases = {phase.name: phase.shared.seconds for phase in floor.phases}
    whole, longest = floor.seconds(), floor.dominant
    shown = {
        "prefill": phases["prefill"],
        "decode": phases["decode, arithmetic"] + phases["decode, keys and values"],
    }
    shown |= {name: phases[name] for name in ("features", "reference") if name in phases}
    shown["training"] = phases["training"] + phases["optimiser"]
    if floor.trainers is None:
        shown["round"] = whole
    else:
        pace = pace_of(floor)
        shown |= {"transfer": pace.transfer, "one sender": pace.broadcast}
        shown |= {"lag 0": whole + pace.transfer, "lag 1": pace.cycle}
    held = floor.memory
    return {name: seconds_text(value) for name, value in shown.items()} | {
        "longest": f"{longest.name} {100 * longest.shared.seconds / whole:.0f} %, {longest.shared.bound}",
        "to sample": bytes_text(held.sampling(True)),
        "to train": bytes_text(held.training),
        "fits": "yes" if held.fits(True) else "no",
    }
