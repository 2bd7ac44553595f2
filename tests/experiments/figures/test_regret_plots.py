"""Figures of cumulative regret with many agents: names that do not touch, and the leading agents in the frame."""

from itertools import pairwise

import pytest
from made_up_runs import regret_run
from matplotlib.text import Text

from duelenv.experiments.figures import plots
from duelenv.experiments.figures.styles import LIGHT, looks_of
from duelenv.experiments.results.measurements import Results


def test_thirty_names_do_not_touch_and_stay_in_the_figure(tmp_path):
    powers = {"random": 1.0} | {f"agent_with_a_name_{number}": 0.5 for number in range(29)}
    directory = regret_run(tmp_path, powers, seeds=3)
    for name, figure in plots.draw(Results(directory)).items():
        figure.draw_without_rendering()
        # The words alone: an annotation's own extent includes its leader line.
        boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)
        assert len(boxes) >= 30, name
        overlaps = [below.y1 - above.y0 for below, above in pairwise(boxes)]
        assert max(overlaps) < 4, name  # pixels; a box has room above and below its letters
        assert max(box.x1 for box in boxes) <= figure.bbox.x1, name
        assert min(box.y0 for box in boxes) >= 0, name
        assert max(box.y1 for box in boxes) <= figure.axes[0].bbox.y1 + 6, name
    looks = looks_of(Results(directory), LIGHT)
    leading = [agent for agent, look in looks.items() if look.leads]
    assert len(leading) == 1 + len(LIGHT.palette)
    assert "agent_with_a_name_0" in leading  # the least regret of the twenty-nine
    assert "agent_with_a_name_28" not in leading
    assert "random" in leading


def test_the_linear_view_shows_the_leading_agents(tmp_path):
    powers = {"random": 1.0} | {f"a{number}": 0.5 for number in range(12)}
    figure = plots.draw(Results(regret_run(tmp_path, powers)))["regret_average"]
    axes = figure.axes[0]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] == pytest.approx(1.15 * 9 * 1000**0.5)  # the eighth best: agent number 8
    names = {text.get_text() for text in axes.texts}
    assert {"random ↑", "a11 ↑", "a0"} <= names


def test_a_run_of_one_round_has_figures_without_the_bound_that_is_zero_there(tmp_path):
    figures = plots.draw(Results(regret_run(tmp_path, {"random": 1.0, "a": 0.5}, steps=(0, 1))))
    names = {text.get_text() for text in figures["regret_average_loglog"].axes[0].texts}
    assert names == {"random", "a", "√(KT), shape"}  # c ln 1 = 0, and one point has no slope
