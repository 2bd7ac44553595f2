"""Figures: which there are, the same bytes every time, and the baseline in each."""

from made_up_runs import FINAL, policy_run

from duelenv.experiments import plots
from duelenv.experiments.looks import LIGHT
from duelenv.experiments.results import Results


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
