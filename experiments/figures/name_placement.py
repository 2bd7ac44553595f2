"""Names beside the lines and points of a figure, moved apart where they would touch. Draws no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from duelenv.experiments.figures.styles import Look, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Name", "agent_name", "name_lines", "name_points", "spread", "width_of"]


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
    """Write the name of an agent, small where it does not lead."""
    size = 10.5 if look.leads else 8
    return Name(text, x, y, look.colour, size, bold=look.leads, joined=joined)


def width_of(figure: Figure, name: Name) -> float:
    """Measure the width of a name in pixels."""
    text = figure.text(0, 0, name.text, fontsize=name.size, fontweight="bold" if name.bold else "normal")
    width = float(text.get_window_extent().width)
    text.remove()
    return width


def name_lines(axes: Axes, names: Sequence[Name]) -> None:
    """Write each line's name at its end, moved apart where names would touch and kept within the axes' height.

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
    """Write names beside points, each moved up or down to the nearest free place.

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
