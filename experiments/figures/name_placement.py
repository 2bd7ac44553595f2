"""Names beside the lines and points of a figure, moved apart where they would touch. Draws no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from duelenv.experiments.figures.styles import Look, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Box", "Name", "agent_name", "legend_height", "name_lines", "name_points", "spread", "width_of"]

#: Of names below a figure: inches of a line, and letters with which two stand beside each other.
_LEGEND_LINE, _LEGEND_LETTERS = 0.17, 20


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
    style: Any = "-"
    width: float = 1.1
    """How its line is drawn; a piece of it stands before names that had to move."""

    @property
    def height(self) -> float:
        """Room that it takes, in pixels."""
        return 1.4 * self.size


class Box(NamedTuple):
    """A rectangle in pixels, y upwards."""

    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: Box) -> float:
        """Compute the area that two have in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.high, other.high) - max(self.low, other.low)
        return max(across, 0.0) * max(up, 0.0)


def agent_name(text: str, x: float, y: float, look: Look) -> Name:
    """Find the name of an agent, small where it does not lead."""
    size = 10.5 if look.leads else 8
    return Name(text, x, y, look.colour, size, bold=look.leads, style=look.style, width=look.width)


def width_of(figure: Figure, name: Name) -> float:
    """Find the width of a name in pixels."""
    text = figure.text(0, 0, name.text, fontsize=name.size, fontweight="bold" if name.bold else "normal")
    width = float(text.get_window_extent().width)
    text.remove()
    return width


def name_lines(axes: Axes, names: Sequence[Name], theme: Theme) -> None:
    """Write each line's name: at its end, or where there is no room beside the axes, below them.

    Names that would touch are moved apart and kept within the axes' height, in the order of the lines' ends. Where one
    had to move, a piece of its line stands before each: lines from many names to one point would tell nothing.

    Args:
        axes: Where; its limits are final.
        names: In any order; of equal heights, the first is the lowest.
        theme: Says how much room there is.
    """
    upwards = sorted(names, key=lambda name: name.y)
    if theme.narrow:
        _name_below(axes, upwards[::-1])
        return
    right = axes.get_xlim()[1]  # which also settles the limits that the transforms below go by
    pixels = [float(axes.transData.transform((name.x, name.y))[1]) for name in upwards]
    gaps = [(low.height + high.height) / 2 for low, high in pairwise(upwards)]
    heights = spread(pixels, gaps, within=(axes.bbox.y0, axes.bbox.y1 - 4))
    end = float(axes.transData.transform((right, upwards[0].y))[0]) if upwards else 0.0
    moved = any(abs(height - pixel) > 2 for height, pixel in zip(heights, pixels, strict=True))
    back = axes.transData.inverted()
    for name, height in zip(upwards, heights, strict=True):
        start_x, y = back.transform((end + 8, height)).tolist()
        place_x, _ = back.transform((end + (32 if moved else 6), height)).tolist()
        piece = {
            "arrowstyle": "-",
            "color": name.colour,
            "linewidth": name.width,
            "linestyle": name.style,
            "relpos": (0, 0.5),
            "shrinkA": 3,
            "shrinkB": 0,
        }
        axes.annotate(
            name.text,
            xy=(start_x, y),
            xytext=(place_x, y),
            color=name.colour,
            va="center",
            ha="left",
            fontsize=name.size,
            fontweight="bold" if name.bold else "normal",
            annotation_clip=False,
            arrowprops=piece if moved else None,
        )


def legend_height(names: Sequence[Name]) -> float:
    """Compute the inches that names take below a figure."""
    return _LEGEND_LINE * -(-len(names) // _legend_columns(names)) + 0.1


def _legend_columns(names: Sequence[Name]) -> int:
    return 2 if max((len(name.text) for name in names), default=0) <= _LEGEND_LETTERS else 1


def _name_below(axes: Axes, names: Sequence[Name]) -> None:
    """Write names below the axes, each behind a piece of its line."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=name.colour, linestyle=name.style, linewidth=name.width) for name in names]
    legend = axes.legend(
        lines,
        [name.text for name in names],
        loc="upper left",
        bbox_to_anchor=(-0.16, -0.64 / (axes.bbox.height / 100)),
        ncols=_legend_columns(names),
        frameon=False,
        fontsize=8.5,
        handlelength=1.8,
        labelspacing=0.35,
        columnspacing=1.2,
        borderpad=0.0,
        borderaxespad=0.0,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_color(name.colour)
        text.set_fontweight("bold" if name.bold else "normal")


def name_points(axes: Axes, names: Sequence[Name], theme: Theme, taken: Sequence[Box] = ()) -> None:
    """Write names beside points, each at the nearest place that is free; below the axes where there is little room.

    Args:
        axes: Where; its limits are final.
        names: Of the points.
        theme: Gives the outline that keeps names readable on lines.
        taken: Where error bars and points are, in pixels, which names keep off.
    """
    from matplotlib import patheffects

    upwards = sorted(names, key=lambda name: name.y)
    if theme.narrow:
        _name_below(axes, upwards[::-1])
        return
    axes.get_xlim()  # settles the limits that the transforms below go by
    boxes = list(taken)
    for name in upwards:
        x, y = (float(value) for value in axes.transData.transform((name.x, name.y)))
        width = width_of(axes.figure.get_figure(root=True), name)
        places = _around(x, y, width, name.height)
        free = min(places, key=lambda place: (sum(place.overlap(other) for other in boxes) > 0, places.index(place)))
        boxes.append(free)
        at = axes.transData.inverted().transform((free.left, (free.low + free.high) / 2))
        text = axes.annotate(
            name.text,
            xy=(float(at[0]), float(at[1])),
            color=name.colour,
            va="center",
            fontsize=name.size,
            fontweight="bold" if name.bold else "normal",
            annotation_clip=False,
        )
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=theme.background)])


def _around(x: float, y: float, width: float, height: float) -> list[Box]:
    """Places for a name around a point, in pixels, the nearest ones first and those at the right before the left."""
    shifts = sorted(np.arange(-9, 10) * height / 2 + 0.7 * height, key=abs)
    sides = [(x + 9.0, float(shift)) for shift in shifts] + [(x - 9.0 - width, float(shift)) for shift in shifts]
    near = sorted(sides, key=lambda place: abs(place[1]))
    return [Box(left, y + shift - height / 2, left + width, y + shift + height / 2) for left, shift in near]


def spread(
    heights: Sequence[float], gaps: Sequence[float], within: tuple[float, float] = (-np.inf, np.inf)
) -> list[float]:
    """Move sorted heights apart to at least the gaps between them, keeping groups centred where they were.

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
