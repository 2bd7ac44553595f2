"""How figures of a run look: colours, line styles, an empty figure, and names beside lines. Shows no data itself.

Colours are Okabe and Ito's, told apart with any colour vision; the baseline is always grey. Where there are more agents
than colours can tell apart, the leading ones have the colours and the others are thin and muted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from duelenv.experiments.regret import group_agents
from duelenv.experiments.results import Results, lower_is_better
from duelenv.experiments.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "LIGHT",
    "Look",
    "Name",
    "Theme",
    "agent_name",
    "empty_figure",
    "footnote",
    "looks_of",
    "matplotlib_settings",
    "name_lines",
    "name_points",
    "spread",
    "thousands",
]

#: More agents than this, and only the leading ones are told apart by colour.
MANY = 10


@dataclass(frozen=True)
class Theme:
    """Colours of a figure."""

    background: str
    text: str
    faint: str
    baseline: str
    muted: str
    palette: tuple[str, ...]


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

_STYLES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.5, 2)))


@contextmanager
def matplotlib_settings(theme: Theme) -> Iterator[None]:
    """Settings for one figure; the caller's own are untouched."""
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 11,
        "axes.labelsize": 11,
        "axes.titlesize": 12,
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
        "svg.fonttype": "path",
        # Without it the file's inner names are drawn at random, and two equal figures differ.
        "svg.hashsalt": "duelenv",
    }
    with mpl.rc_context(cast("Any", settings)):
        yield


@dataclass(frozen=True)
class Look:
    """How one agent's line is drawn."""

    colour: str
    style: Any
    width: float
    leads: bool = True
    """Whether it stands out: always, unless there are many agents."""


def looks_of(results: Results, theme: Theme) -> dict[str, Look]:
    """The look of every agent; variants of the baseline's agent share its grey, an agent in several worlds its look."""
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
    """A number that is smaller for better agents: the final mean of what they are compared by."""
    metric = (results.regret if results.config.replicated else None) or results.primary
    mean = mean_interval([value for label in labels for value in results.final(label, metric).values()]).mean
    return mean if lower_is_better(metric) else -mean


@dataclass(frozen=True)
class Name:
    """A name beside the end of a line."""

    text: str
    x: float
    y: float
    """Where the line ends, in the data's coordinates."""
    colour: str
    size: float = 10.5
    bold: bool = True
    joined: bool = True
    """Whether a leader line joins it to its line where it had to move."""

    @property
    def height(self) -> float:
        """Room that it takes, in pixels."""
        return 1.4 * self.size


def agent_name(text: str, x: float, y: float, look: Look, *, joined: bool = True) -> Name:
    """The name of an agent, small where it does not lead."""
    size = 10.5 if look.leads else 8
    return Name(text, x, y, look.colour, size, bold=look.leads, joined=joined)


def empty_figure(
    names: Sequence[tuple[str, Look]], *, panels: int = 1, further: Sequence[str] = ()
) -> tuple[Figure, list[Axes]]:
    """An empty figure with room at the right of each panel for names, one below the other.

    Args:
        names: What is written there of the agents of the fullest panel.
        panels: Panels, up to three beside each other.
        further: Other small names of a panel.
    """
    # The object-oriented interface: no window system, no global list of figures.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = [agent_name(text, 0, 0, look) for text, look in names]
    written += [Name(text, 0, 0, "black", size=9, bold=False) for text in further]
    needed = sum(name.height for name in written) / 100  # inches: a figure has 100 pixels to one
    height = max(4.4, needed / 0.735 + 0.3)
    width = 7.2 if panels == 1 else 4.9
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    FigureCanvasAgg(figure)
    least = 1.66 if panels == 1 else 1.2
    label = max(least, 0.28 + max(_width(figure, name) for name in written) / 100)
    left, bottom, top = 0.83, 0.73, 0.44
    across, up = width * columns, height * rows
    every = []
    for panel in range(panels):
        row, column = divmod(panel, columns)
        x, y = column * width + left, (rows - 1 - row) * height + bottom
        size = ((width - left - label) / across, (height - bottom - top) / up)
        axes = figure.add_axes((x / across, y / up, *size))
        axes.tick_params(length=3, width=0.8)
        every.append(axes)
    return figure, every


def _width(figure: Figure, name: Name) -> float:
    """The width of a name in pixels."""
    text = figure.text(0, 0, name.text, fontsize=name.size, fontweight="bold" if name.bold else "normal")
    width = float(text.get_window_extent().width)
    text.remove()
    return width


def thousands(axes: Axes, which: str = "x") -> None:
    """Round numbers on an axis, with commas."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"))


def name_lines(axes: Axes, names: Sequence[Name]) -> None:
    """Writes each line's name at its end, moved apart where names would touch and kept within the axes' height.

    Args:
        axes: Where; its limits are final.
        names: In any order; of equal heights, the first is the lowest.
    """
    right = axes.get_xlim()[1]  # which also settles the limits that the transforms below go by
    upwards = sorted(names, key=lambda name: name.y)
    pixels = [float(axes.transData.transform((name.x, name.y))[1]) for name in upwards]
    gaps = [(low.height + high.height) / 2 for low, high in pairwise(upwards)]
    heights = spread(pixels, gaps, within=(axes.bbox.y0, axes.bbox.y1 - 4))
    end = float(axes.transData.transform((right, upwards[0].y))[0]) if upwards else 0.0
    # Where one name had to move, all stand a little off and get a leader line.
    moved = any(abs(height - pixel) > 2 for height, pixel in zip(heights, pixels, strict=True))
    for name, height in zip(upwards, heights, strict=True):
        place = axes.transData.inverted().transform((end + (18 if moved else 6), height))
        axes.annotate(
            name.text,
            xy=(name.x, name.y),
            xytext=(float(place[0]), float(place[1])),
            color=name.colour,
            va="center",
            ha="left",
            fontsize=name.size,
            fontweight="bold" if name.bold else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": name.colour,
                "linewidth": 0.8 if name.bold else 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 1,
            }
            if moved and name.joined
            else None,
        )


def name_points(axes: Axes, ends: Sequence[tuple[str, float, float, str]], theme: Theme) -> None:
    """Writes names beside points, each moved up or down to the nearest free place.

    Args:
        axes: Where.
        ends: Name, x, y and colour.
        theme: Gives the outline that keeps names readable on lines.
    """
    from matplotlib import patheffects

    axes.get_xlim()  # settles the limits that the transforms below go by
    height, letter, beside = 16.0, 8.0, 9.0
    taken: list[tuple[float, float, float]] = []  # left, right and centre of the names so far, in pixels
    for name, x, y, colour in sorted(ends, key=lambda end: end[2]):
        left, centre = (float(value) for value in axes.transData.transform((x, y)))
        left += beside
        right = left + letter * len(name)
        for shift in sorted(np.arange(-6, 7) * height / 2 + 0.7 * height, key=abs):
            place = centre + float(shift)
            if all(right < a or left > b or abs(place - c) >= height for a, b, c in taken):
                break
        taken.append((left, right, place))
        at_x, at_y = axes.transData.inverted().transform((left, place))
        text = axes.annotate(
            name,
            xy=(float(at_x), float(at_y)),
            color=colour,
            va="center",
            fontsize=10.5,
            fontweight="bold",
            annotation_clip=False,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=theme.background)])


def spread(
    heights: Sequence[float], gaps: Sequence[float], within: tuple[float, float] = (-np.inf, np.inf)
) -> list[float]:
    """Moves sorted heights apart to at least the gaps between them, keeping groups centred where they were.

    Pools neighbours that would touch, as in isotonic regression.

    Args:
        heights: In increasing order, [M].
        gaps: Least distance between neighbours, [M - 1].
        within: Lowest and highest place; the highest yields where there is no room for all.
    """
    places = np.concatenate([[0.0], np.cumsum(gaps)])  # where they would stand, packed from 0
    groups: list[tuple[float, int]] = []  # mean of (height - place), size
    for height, place in zip(heights, places, strict=False):
        groups.append((height - float(place), 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (left, m), (right, n) = groups[-2], groups[-1]
            groups[-2:] = [((left * m + right * n) / (m + n), m + n)]
    offsets = [offset for offset, size in groups for _ in range(size)]
    low, high = within[0], within[1] - float(places[-1])
    return [max(low, min(high, offset)) + float(place) for offset, place in zip(offsets, places, strict=False)]


def footnote(figure: Figure, results: Results, theme: Theme, lead: str = "mean and ") -> None:
    """Says at the lower right what bands and bars are."""
    seeds = max(len(results.seeds(agent)) for agent in results.agents)
    text = f"{lead}95 % t-interval over {seeds} seeds" if seeds > 1 else "one seed"
    figure.text(0.995, 0.008, text, ha="right", va="bottom", fontsize=8.5, color=theme.text, alpha=0.7)
