"""Names in figures: moved apart, and no further than needed."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from duelenv.experiments.figures.name_placement import Box, Name, legend_height, name_lines, name_points, spread
from duelenv.experiments.figures.styles import LIGHT, narrowed


def empty_axes():
    figure = Figure(figsize=(7.2, 4.4))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.6, 0.8))
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    return axes


def boxes_of(axes):
    axes.figure.draw_without_rendering()
    extents = [Text.get_window_extent(text) for text in axes.texts]
    return [Box(one.x0, one.y0, one.x1, one.y1) for one in extents]


def test_boxes_overlap_by_their_common_area():
    assert Box(0, 0, 4, 4).overlap(Box(3, 2, 9, 9)) == 1 * 2
    assert Box(0, 0, 4, 4).overlap(Box(4, 0, 9, 9)) == 0
    assert Box(0, 0, 4, 4).overlap(Box(-3, -3, -1, 9)) == 0


def test_names_of_points_keep_off_error_bars_and_each_other():
    axes = empty_axes()
    names = [Name(f"an agent {number}", 5.0 + 0.02 * number, 5.0, "black") for number in range(4)]
    x, y = axes.transData.transform((5.0, 5.0))
    bars = [Box(x - 60, y - 4, x + 60, y + 4), Box(x - 4, y - 40, x + 4, y + 40)]
    name_points(axes, names, LIGHT, bars)
    found = boxes_of(axes)
    assert len(found) == 4
    inside = [Box(box.left, box.low + 3, box.right, box.high - 3) for box in found]  # the letters alone
    assert all(one.overlap(bar) == 0 for one in inside for bar in bars)
    assert all(one.overlap(other) == 0 for one, other in combinations(inside, 2))


def test_no_line_leads_from_a_name_to_a_point_that_many_share():
    axes = empty_axes()
    name_lines(axes, [Name(f"agent {number}", 10.0, 5.0, "black", style="--") for number in range(6)], LIGHT)
    axes.figure.draw_without_rendering()
    ends = [text.arrow_patch.get_path().get_extents() for text in axes.texts]
    assert all(abs(end.y1 - end.y0) < 1e-6 for end in ends)  # a piece of each line, level with its name
    assert len({text.xyann[1] for text in axes.texts}) == 6
    alone = empty_axes()
    name_lines(alone, [Name("agent", 10.0, 5.0, "black")], LIGHT)
    assert [text.arrow_patch for text in alone.texts] == [None]


def test_in_a_narrow_figure_names_stand_below_the_best_first():
    axes = empty_axes()
    names = [Name(f"agent {number}", 10.0, float(number), "black") for number in range(3)]
    name_lines(axes, names, narrowed(LIGHT))
    assert axes.texts[:] == []
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["agent 2", "agent 1", "agent 0"]
    long = [Name("a name of many, many letters", 0, 0, "black")] * 4
    assert legend_height(names[:2] * 2) == pytest.approx(2 * 0.17 + 0.1)  # two beside each other
    assert legend_height(long) == pytest.approx(4 * 0.17 + 0.1)


def test_names_at_line_ends_do_not_touch():
    heights = spread([10.0, 11.0, 11.5, 80.0], [15.0] * 3)
    assert np.diff(heights).min() >= 15 - 1e-9
    assert np.mean(heights[:3]) == pytest.approx(np.mean([10.0, 11.0, 11.5]))
    assert heights[3] == 80
    assert spread([], []) == []
    assert spread([0.0, 1.0, 99.0], [10.0, 20.0], within=(5.0, 90.0)) == pytest.approx([5.0, 15.0, 90.0])
