"""What all figures of a run share: matplotlib's settings, panels with room for names, lines with bands, the files.

Decides nothing about what a figure shows: that is in `duelenv.experiments.figures.plots` and `regret_plots`.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.figures.name_placement import Name, agent_name, legend_height, width_of
from duelenv.experiments.figures.styles import Look, Theme, looks_of
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.groups import Group, group_agents

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Panel",
    "as_bytes",
    "draw_band",
    "empty_figure",
    "entitle",
    "footnote",
    "log_numbers",
    "matplotlib_settings",
    "plain",
    "start_at_zero",
    "thousands",
    "world_panels",
]


@contextmanager
def matplotlib_settings(theme: Theme) -> Iterator[None]:
    """Put settings in force for one figure; the caller's own are untouched."""
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9 if theme.narrow else 11,
        "axes.labelsize": 9 if theme.narrow else 11,
        "axes.titlesize": 9.5 if theme.narrow else 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.text,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "axes.facecolor": theme.background,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.8,
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "text.color": theme.text,
    }
    with mpl.rc_context(cast("Any", settings)):
        yield


@dataclass(frozen=True)
class Panel:
    """The axes of one variant of the world, and the agents that met it."""

    axes: Axes
    group: Group
    looks: Mapping[str, Look]
    """By label."""
    theme: Theme

    def agents(self) -> list[tuple[str, str, Look]]:
        """List label, name and look of each agent; those that lead come last, so that they are drawn on top."""
        every = [
            (label, name, self.looks[label]) for label, name in zip(self.group.agents, self.group.names, strict=True)
        ]
        return sorted(every, key=lambda agent: agent[2].leads)


def _nothing_further(group: Group) -> Sequence[str]:
    return ()


def world_panels(
    results: Results,
    theme: Theme,
    *,
    suffix: str = "",
    further: Callable[[Group], Sequence[str]] = _nothing_further,
) -> tuple[Figure, list[Panel]]:
    """Make an empty figure with one panel for each variant of the world.

    Args:
        results: The run.
        theme: Colours.
        suffix: What will stand after each agent's name, such as a number.
        further: Other names that a panel will have, by its group.
    """
    looks, groups = looks_of(results, theme), group_agents(results)
    largest = max(groups, key=lambda group: len(group.agents))
    names = [(f"{name}{suffix}", looks[agent]) for agent, name in zip(largest.agents, largest.names, strict=True)]
    figure, every = empty_figure(names, panels=len(groups), further=further(largest), narrow=theme.narrow)
    return figure, [Panel(axes, group, looks, theme) for axes, group in zip(every, groups, strict=True)]


def empty_figure(
    names: Sequence[tuple[str, Look]], *, panels: int = 1, further: Sequence[str] = (), narrow: bool = False
) -> tuple[Figure, list[Axes]]:
    """Make an empty figure with room at the right of each panel for names, one below the other.

    Args:
        names: What is written there of the agents of the fullest panel.
        panels: Panels, up to three beside each other.
        further: Other small names of a panel.
        narrow: One panel below the other, with room for the names below each.
    """
    # The object-oriented interface: no window system, no global list of figures.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = [agent_name(text, 0, 0, look) for text, look in names]
    written += [Name(text, 0, 0, "black", size=9, bold=False) for text in further]
    if narrow:
        left, right, bottom, top = 0.68, 0.26, 0.72 + legend_height(written), 0.44
        width, height, columns = 3.5, 2.3 + bottom + top, 1
    else:
        needed = sum(name.height for name in written) / 100  # inches: a figure has 100 pixels to one
        left, bottom, top = 0.83, 0.73, 0.44
        width, height, columns = 7.2 if panels == 1 else 4.9, max(4.4, needed / 0.735 + 0.3), min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    FigureCanvasAgg(figure)
    if not narrow:
        least = 1.66 if panels == 1 else 1.2
        right = max(least, 0.4 + max(width_of(figure, name) for name in written) / 100)
    across, up = width * columns, height * rows
    every = []
    for panel in range(panels):
        row, column = divmod(panel, columns)
        x, y = column * width + left, (rows - 1 - row) * height + bottom
        size = ((width - left - right) / across, (height - bottom - top) / up)
        axes = figure.add_axes((x / across, y / up, *size))
        axes.tick_params(length=3, width=0.8)
        every.append(axes)
    return figure, every


def entitle(axes: Axes, theme: Theme, *, title: str, x: str, y: str) -> None:
    """Write the title and what the axes are, in lines that fit."""
    across, up = axes.bbox.width, axes.bbox.height
    figure = axes.figure.get_figure(root=True)
    above = figure.bbox.width - axes.bbox.x0 if figure is not None and len(figure.axes) == 1 else across
    bold, letter = (7.8, 6.8) if theme.narrow else (10.0, 8.5)  # pixels of a letter, on average
    axes.set_title(textwrap.fill(title, int(above / bold)))
    axes.set_xlabel(textwrap.fill(x, int(across / letter)))
    axes.set_ylabel(textwrap.fill(y, int(up / letter)))


def draw_band(
    axes: Axes,
    x: NDArray[np.float64],
    mean: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    look: Look,
) -> None:
    """Draw a line over x [T], with its band where the agent leads: too many bands would hide each other."""
    if look.leads:
        axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
    axes.plot(x, mean, color=look.colour, linestyle=look.style, linewidth=look.width, solid_capstyle="round")


def start_at_zero(axes: Axes, lowest: float) -> None:
    """Start a regret's axis at 0, unless it falls well below: against a comparator that was overtaken."""
    if lowest > -0.1 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0)


def thousands(axes: Axes, *, across_only: bool = False) -> None:
    """Put round numbers on both axes, or on the horizontal one alone, with commas."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis in (axes.xaxis,) if across_only else (axes.xaxis, axes.yaxis):
        bins = 7 if axes.bbox.width > 300 else 4
        axis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_with_commas))


def log_numbers(axes: Axes) -> None:
    """Do the same on two logarithmic axes; of a short one also twos and fives."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        steps = (1.0,) if high / low >= 300 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_major_formatter(FuncFormatter(_with_commas))
        axis.set_minor_formatter(NullFormatter())


def _with_commas(value: float, _: object) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def plain(text: str) -> str:
    """Escape a text of the user's, so that matplotlib shows it word for word: what is between dollars is no formula."""
    return text.replace("$", r"\$")


def footnote(figure: Figure, results: Results, theme: Theme, lead: str = "mean and ", *, metric: str = "step") -> None:
    """Say at the lower right what bands and bars are, over the seeds for which the metric was measured at all."""
    seeds = 0
    for agent in results.agents:
        _, values = results.curve(agent, metric)
        seeds = max(seeds, int((~np.isnan(values)).any(axis=1).sum()))
    text = f"{lead}95 % t-interval over {seeds} seeds" if seeds > 1 else "one seed" if seeds else "no values"
    figure.text(
        0.995, 0.008, text, ha="right", va="bottom", fontsize=7.5 if theme.narrow else 8.5, color=theme.text, alpha=0.7
    )


def as_bytes(figure: Figure, kind: str) -> bytes:
    """Save a figure as a file of kind "svg" or "png", the same bytes for the same figure."""
    import matplotlib as mpl

    stream = io.BytesIO()
    # Without the salt a file's inner names are drawn at random, and two equal figures differ.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "duelenv"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
    return stream.getvalue()
