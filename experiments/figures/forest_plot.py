"""Differences to the baseline as a forest plot: a point and two intervals an agent, the best agent first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from duelenv.experiments.figures.name_placement import Name, width_of
from duelenv.experiments.figures.panels import entitle, matplotlib_settings, plain, thousands
from duelenv.experiments.figures.styles import LIGHT, Theme, looks_of
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.tables.forest import Forest, forests
from duelenv.experiments.tables.text_table import TextTable, difference_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_forest", "draw_forests"]

#: Inches of one agent.
_ROW = 0.27
#: Most letters of a name beside the axes of a narrow figure; a longer one stands there cut.
_LETTERS = 18


def draw_forests(results: Results, tables: Sequence[TextTable], theme: Theme = LIGHT) -> dict[str, Figure]:
    """Find the forest plots behind a run's first table, one for each world, by the name of their files."""
    return {forest.name: draw_forest(results, forest, theme) for forest in forests(results, tables)}


def draw_forest(results: Results, forest: Forest, theme: Theme = LIGHT) -> Figure:
    """Draw the differences of one world.

    A thick bar is the interval of 95 % of that difference alone, a thin one that after Holm's correction, which leaves
    0 out exactly where the difference is shown. Filled points are shown to differ.

    Args:
        results: The run, for the looks of its agents.
        forest: What is drawn; at least one row.
        theme: Colours and room.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib_settings(theme):
        looks = looks_of(results, theme)
        names = [_name(row.name, theme) for row in forest.rows]
        size = 8.5 if theme.narrow else 10
        beside = 0.15 if theme.narrow else 2.5
        width = 3.5 if theme.narrow else 7.8
        top, bottom = 0.5, 0.95 if theme.narrow else 0.85
        height = top + bottom + _ROW * (len(names) + 0.6)
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        longest = max(width_of(figure, Name(plain(name), 0, 0, "", size, bold=False)) for name in names) / 100 + 0.2
        inside = ((width - longest - beside) / width, (height - top - bottom) / height)
        axes = figure.add_axes((longest / width, bottom / height, *inside))
        for place, row in enumerate(forest.rows):
            colour = looks[row.agent].colour
            for interval, thickness in ((row.corrected, 1.1), (row.alone, 3.6)):
                axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=thickness)
            face = colour if row.alone.shows_difference else theme.background
            axes.plot([row.alone.mean], [place], "o", color=colour, markerfacecolor=face, markersize=6)
            if not theme.narrow:
                axes.annotate(
                    difference_text(row.alone, verdict=False),
                    xy=(1.0, place),
                    xycoords=("axes fraction", "data"),
                    xytext=(10, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                    annotation_clip=False,
                )
        axes.axvline(0.0, color=theme.baseline, linewidth=1.2)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=size)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        thousands(axes, across_only=True)
        way = "" if forest.better is None else f"; {forest.better} is better"
        entitle(
            axes,
            theme,
            title=plain(forest.title) or f"Differences to {plain(forest.baseline)}",
            x=f"difference to {plain(forest.baseline)} in {label_of(forest.metric)}{way}",
            y="",
        )
    return figure


def _name(name: str, theme: Theme) -> str:
    return name if not theme.narrow or len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
