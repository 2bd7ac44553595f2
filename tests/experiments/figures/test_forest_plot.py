"""The forest plot: bars where the intervals are, names and numbers off them."""

import pytest
from made_up_runs import policy_run
from matplotlib.text import Text

from duelenv.experiments.figures.forest_plot import draw_forests
from duelenv.experiments.figures.styles import LIGHT, narrowed
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.forest import forests
from duelenv.experiments.tables.regret import tables


@pytest.mark.parametrize("theme", [LIGHT, narrowed(LIGHT)], ids=["wide", "narrow"])
def test_bars_are_the_intervals_and_words_stand_beside_the_axes(tmp_path, theme):
    results = Results(policy_run(tmp_path))
    made = tables(results)
    (forest,) = forests(results, made)
    figure = draw_forests(results, made, theme)["differences"]
    (axes,) = figure.axes
    bars = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    for row in forest.rows:
        assert (row.alone.low, row.alone.high) in bars
        assert (row.corrected.low, row.corrected.high) in bars
    filled = [line.get_markerfacecolor() != theme.background for line in axes.lines if line.get_marker() == "o"]
    assert filled == [True, False]  # 'better' is shown, 'alike' is not
    figure.draw_without_rendering()
    frame = axes.bbox
    words = [Text.get_window_extent(text) for text in (*axes.get_yticklabels(), *axes.texts)]
    assert all(box.x1 <= frame.x0 or box.x0 >= frame.x1 for box in words)
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in words)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "alike"]
