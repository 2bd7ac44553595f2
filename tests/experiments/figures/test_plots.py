"""Figures: which there are, the same bytes every time, and the baseline in each."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up_runs import FINAL, add_column, change_config, numeric_run, policy_run

from duelenv import UserError
from duelenv.experiments.figures import plots
from duelenv.experiments.figures.panels import as_bytes, plain
from duelenv.experiments.figures.styles import LIGHT, MANY, looks_of
from duelenv.experiments.results.measurements import Results


def test_figures_are_files_and_the_same_every_time(tmp_path):
    directory = policy_run(tmp_path)
    paths = plots.save_figures(Results(directory))
    names = {path.name for path in paths}
    assert names == {
        f"{name}.{kind}" for name in ("win_rate", "win_rate_against_kl", "regret_average") for kind in ("png", "svg")
    }
    before = {path: path.read_bytes() for path in paths}
    assert all(content[:4] == b"\x89PNG" for path, content in before.items() if path.suffix == ".png")
    plots.save_figures(Results(directory))
    assert {path: path.read_bytes() for path in paths} == before


def test_the_baseline_is_in_every_figure_and_grey(tmp_path):
    results = Results(policy_run(tmp_path))
    for figure in plots.draw(results).values():
        axes = figure.axes[0]
        names = {text.get_text(): text.get_color() for text in axes.texts}
        assert set(names) == set(FINAL)
        assert names["passive"] == LIGHT.baseline
        assert len(set(names.values())) == len(names)


def test_a_figure_of_a_whole_cell_is_one_line_without_a_band(tmp_path):
    directory = numeric_run(tmp_path)
    table = pq.read_table(directory / "results.parquet")
    seed, step = table["seed"].to_numpy(), table["step"].to_numpy()
    # Before the first round nothing was learned.
    add_column(directory, "own", np.where((seed == 0) & (step > 0), 2.0 + step, np.nan), from_agent=True)
    add_column(directory, "own_by_seed", np.where(step > 0, 2.0 + step + seed, np.nan), from_agent=True)
    results = Results(change_config(directory, metric="own"))
    figure = plots.draw(results)["own"]
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[3.0, 4.0]] * 2
    assert "one seed" in [text.get_text() for text in figure.texts]
    by_seed = plots.metric_against_labels(results, "own_by_seed")
    assert [line.get_ydata().tolist() for line in by_seed.axes[0].lines] == [[4.0, 5.0]] * 2
    assert "mean and 95 % t-interval over 3 seeds" in [text.get_text() for text in by_seed.texts]


def test_a_figure_that_no_cell_has_is_drawn_empty(tmp_path):
    directory = add_column(numeric_run(tmp_path), "own", np.nan, from_agent=True)
    figure = plots.draw(Results(change_config(directory, metric="own")))["own"]
    assert [text.get_text() for text in figure.texts] == ["no values"]


def test_no_figure_is_written_through_a_link_that_leads_out(tmp_path):
    directory, outside = policy_run(tmp_path / "run"), tmp_path / "outside"
    outside.mkdir()
    (directory / "figures").symlink_to(outside, target_is_directory=True)
    with pytest.raises(UserError, match=r"figures' is a link to .*outside', which is not in the run"):
        plots.save_figures(Results(directory))
    assert list(outside.iterdir()) == []
    (directory / "figures").unlink()
    linked = tmp_path / "linked"
    linked.symlink_to(directory, target_is_directory=True)  # the directory itself may be one
    assert plots.save_figures(Results(linked))


def test_among_many_agents_none_leads_where_nobody_said_which_way_is_better(tmp_path):
    names = ["passive", *(f"a{number:02d}" for number in range(MANY + 2))]
    agents = {name: [0.5 + 0.01 * number] * 4 for number, name in enumerate(names)}
    directory = policy_run(tmp_path, agents=agents)
    values = pq.read_table(directory / "results.parquet")["win_rate"].to_numpy()
    add_column(directory, "score", values)
    change_config(directory, agents={name: {"name": "passive" if name == "passive" else "thompson"} for name in names})

    def muted(metric):
        looks = looks_of(Results(change_config(directory, metric=metric)), LIGHT)
        return [name for name, look in looks.items() if not look.leads]

    shown = len(LIGHT.palette)
    assert muted("score") == names[1 + shown :]  # the config's order
    assert sorted(muted("win_rate")) == names[1:-shown]  # the largest lead
    assert sorted(muted("kl")) == names[1 + shown :]  # the smallest


def test_dollars_in_a_title_are_no_formula():
    from matplotlib.figure import Figure

    title = r"matrix = $\frac{$, price = 5"
    figure = Figure()
    figure.suptitle(title)
    with pytest.raises(ValueError, match="frac"):
        as_bytes(figure, "png")
    figure.suptitle(plain(title))
    assert as_bytes(figure, "png")
