"""The figures of a run as the page holds them: each drawn for light and dark, for wide and narrow screens."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from duelenv.experiments.figures import plots
from duelenv.experiments.figures.forest_plot import draw_forests
from duelenv.experiments.figures.panels import as_bytes
from duelenv.experiments.figures.styles import DARK, LIGHT, MANY, Theme, narrowed
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import bounds_of
from duelenv.experiments.tables.text_table import TextTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FigureView", "drawn"]

_CAPTIONS: Final = {
    "win_rate": "Mean probability that the policy's response beats the start policy's on held-out prompts; 0.5 is the "
    "start policy.",
    "win_rate_against_kl": "The same win rate against how far the policy has moved; further left at the same height is "
    "cheaper.",
    "simple_regret": "How far the recommended candidate is from the best one, on contexts kept for evaluation.",
    "win_rate_best_of_n": "Mean probability that the recommended candidate wins, on contexts kept for evaluation.",
    "belief_calibration": "How wrong the belief about the utility is, in its own standard deviations: 1 is as wrong as "
    "it says, above 1 is too sure.",
    "informative_duels": "Duels so far whose better response wins with a probability of at least 0.88.",
}


@dataclass(frozen=True)
class FigureView:
    """One figure.

    Attributes:
        caption: What it shows.
        pictures: By theme, each an address of data: light, dark, and both for narrow screens.
        width: CSS pixels of the wide one at its natural size.
        height: Likewise.
        narrow_width: Of the narrow one.
        narrow_height: Likewise.
    """

    caption: str
    pictures: dict[str, str]
    width: int
    height: int
    narrow_width: int
    narrow_height: int


def drawn(results: Results, tables: Sequence[TextTable]) -> dict[str, FigureView]:
    """Draw all figures of a run, by the names of their files.

    Args:
        results: The run.
        tables: As `duelenv.experiments.tables.regret.tables` makes them.
    """
    looks = {"light": LIGHT, "dark": DARK, "narrow": narrowed(LIGHT), "narrow_dark": narrowed(DARK)}
    every = {look: _draw(results, tables, theme) for look, theme in looks.items()}
    views = {}
    for name, figure in every["light"].items():
        views[name] = FigureView(
            _caption(results, name),
            {look: _data(figures[name]) for look, figures in every.items()},
            *_size(figure),
            *_size(every["narrow"][name]),
        )
    return views


def _draw(results: Results, tables: Sequence[TextTable], theme: Theme) -> dict[str, Figure]:
    return plots.draw(results, theme) | draw_forests(results, tables, theme)


def _size(figure: Figure) -> tuple[int, int]:
    width, height = figure.get_size_inches()
    return round(96 * width), round(96 * height)


def _data(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(as_bytes(figure, "svg")).decode("ascii")


def _caption(results: Results, name: str) -> str:
    if name.startswith("differences"):
        return (
            "Differences to the baseline, the best first. Thick: the 95 % interval of that difference alone; thin: "
            "at the level at which Holm's procedure tests it, which leaves 0 out exactly where one is shown (filled)."
        )
    if name.endswith("_loglog"):
        return _loglog_caption(results)
    if name.startswith("regret_"):
        what = "per label" if results.config.policy is not None else "added up over all duels"
        caption = f"Regret of the duels ({name.removeprefix('regret_')}), {what}."
        if len(results.agents) > MANY:
            caption += " Beside the agents in colour, the others are thin; those marked ↑ leave the frame."
        return caption
    return _CAPTIONS.get(name, f"{label_of(name)[:1].upper()}{label_of(name)[1:]}.")


def _loglog_caption(results: Results) -> str:
    """Say what the slopes and the dotted lines are."""
    caption = (
        "The same in log-log view; beside each name the slope over the last half of the duels, 1 for linear regret and "
        "1/2 for the square root of T."
    )
    bounds = {bound.name: bound.meaning for group in group_agents(results) for bound in bounds_of(results, group)}
    if bounds:
        caption += f" Dotted: {'; '.join(f'{name}: {meaning}' for name, meaning in bounds.items())}."
    return caption
