"""How each agent of a run looks in figures: the themes, and which colour and line style an agent has.

Colours are Okabe and Ito's, told apart with any colour vision; the baseline is always grey. Where there are more agents
than colours can tell apart, the leading ones have the colours and the others are thin and muted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.statistics import mean_interval

__all__ = ["DARK", "LIGHT", "MANY", "Look", "Theme", "looks_of", "narrowed"]

#: More agents than this, and only the leading ones are told apart by colour.
MANY = 10


@dataclass(frozen=True)
class Theme:
    """Colours of a figure, and how much room it has."""

    background: str
    text: str
    faint: str
    baseline: str
    muted: str
    palette: tuple[str, ...]
    narrow: bool = False
    """Whether it is for a telephone: one panel below the other, names below each in place of beside it."""


LIGHT = Theme(
    background="#ffffff",
    text="#222222",
    faint="#e4e4e4",
    baseline="#6b6b6b",
    muted="#8e939a",
    palette=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F3C8D"),
)
DARK = Theme(
    background="#16181c",
    text="#e6e6e6",
    faint="#33373d",
    baseline="#a3a3a3",
    muted="#7b818a",
    palette=("#56B4E9", "#FF8A3D", "#2CC79A", "#E79CC2", "#F0C04A", "#9DC3FF", "#C9A766", "#C58BD6"),
)


def narrowed(theme: Theme) -> Theme:
    """Give the same colours for a telephone."""
    return replace(theme, narrow=True)


_STYLES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.5, 2)))


@dataclass(frozen=True)
class Look:
    """How one agent's line is drawn."""

    colour: str
    style: Any
    width: float
    leads: bool = True
    """Whether it stands out: always, unless there are many agents."""


def looks_of(results: Results, theme: Theme) -> dict[str, Look]:
    """Choose every agent's look; variants of the baseline share its grey, an agent in several worlds its look."""
    config = results.config
    groups = group_agents(results)
    kinds: dict[str, list[str]] = {}  # labels by the name that an agent has in every world
    for group in groups:
        for label, name in zip(group.agents, group.names, strict=True):
            kinds.setdefault(name, []).append(label)
    baseline = config.agent(config.baseline).name
    grey = [name for name, labels in kinds.items() if config.agent(labels[0]).name == baseline]
    grey.sort(key=lambda name: all(group.baseline not in kinds[name] for group in groups))  # the baseline itself first
    coloured = [name for name in kinds if name not in grey]
    muted: set[str] = set()
    if len(coloured) > MANY:
        coloured.sort(key=lambda name: _rank(results, kinds[name]))
        muted = set(coloured[len(theme.palette) :])
    looks: dict[str, Look] = {}
    for name, labels in kinds.items():
        if name in grey:
            look = Look(theme.baseline, _STYLES[grey.index(name) % len(_STYLES)], 2.0)
        elif name in muted:
            look = Look(theme.muted, "-", 0.9, leads=False)
        else:
            number = coloured.index(name)
            style = _STYLES[number // len(theme.palette) % len(_STYLES)]
            look = Look(theme.palette[number % len(theme.palette)], style, 2.2)
        looks |= dict.fromkeys(labels, look)
    return looks


def _rank(results: Results, labels: Sequence[str]) -> float:
    """Give better agents smaller numbers: from the final mean of what they are compared by.

    The same for all where nobody said which way is better, so that they stay in the config's order.
    """
    metric = (results.regret if results.config.replicated else None) or results.primary
    better = results.better(metric)
    if better is None:
        return 0.0
    mean = mean_interval([value for label in labels for value in results.final(label, metric).values()]).mean
    return mean if better == "lower" else -mean
