"""Runs from Python: what goes in, what comes out, and what is left behind."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_up_runs import FINAL, NASTY, numeric_run, policy_run, regret_run

import duelenv
from duelenv import agents, experiments
from duelenv.agents.base import AGENTS
from duelenv.experiments.config.loading import load
from duelenv.experiments.interactive.run import Run, _as_html
from duelenv.experiments.running.runner import CellFailed
from duelenv.experiments.tables.regret import tables

SMALL = {"env": {"id": "FeatureDuel", "dim": 3, "horizon": 8}, "agents": ["passive", "thompson"], "seeds": 3, "jobs": 1}


@pytest.fixture(scope="module")
def done():
    return experiments.run(SMALL, progress=False)


# Starting -------------------------------------------------------------------------------------------------------------


def test_curves_have_a_row_for_each_agent_seed_and_evaluation(done):
    curves = done.curves
    assert curves.column_names[:4] == ["agent", "seed", "step", "queries"]
    assert curves.num_rows == 2 * 3 * len(set(curves["step"].to_pylist()))
    assert set(curves["agent"].to_pylist()) == {"passive", "thompson"}
    assert curves["queries"].to_pylist() == curves["step"].to_pylist()  # a label a round


def test_a_temporary_folder_goes_with_the_run():
    with experiments.run(SMALL, agents=["passive"], progress=False) as run:
        assert run.folder.is_dir()
        curves = run.curves
    assert not run.folder.exists()
    assert curves.num_rows > 0
    last = experiments.run(SMALL, agents=["passive"], progress=False)
    folder = last.folder
    del last
    assert not folder.exists()


def test_a_folder_of_its_own_stays_and_goes_on(tmp_path, capfd):
    first = experiments.run(SMALL, output=tmp_path / "mine")
    assert "thompson, 3 seeds" in capfd.readouterr().err
    again = experiments.run(SMALL, output=tmp_path / "mine")
    assert capfd.readouterr().err == ""  # nothing was left to play
    first.close()
    opened = experiments.open(tmp_path / "mine")
    assert opened.curves.equals(again.curves)
    assert opened.config == again.config


def test_keywords_replace_settings_and_dotted_ones_reach_inside():
    def config(source, **settings):
        from duelenv.experiments.interactive.starting import _config_of

        return _config_of(source, settings)

    changed = config(SMALL, seeds=5, **{"env.horizon": 4})
    assert (changed.seeds, changed.env.settings) == ((0, 1, 2, 3, 4), {"dim": 3, "horizon": 4})
    assert SMALL["env"]["horizon"] == 8
    assert config(None, **SMALL) == config(SMALL)
    assert config("features", seeds=2) == load("features", ["seeds=2"])
    resolved = config(SMALL)
    assert config(resolved) == resolved
    assert config(resolved, **{"agents.thompson.temperature": 2.0}).agent("thompson").settings == {"temperature": 2.0}


def test_a_wrong_setting_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(duelenv.UserError, match="Unknown setting 'sedes': did you mean 'seeds'"):
        experiments.run(SMALL, sedes=3)
    with pytest.raises(duelenv.UserError, match="'polars'"):
        experiments.run(SMALL, frame="polars", output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_no_path_and_what_is_no_run_are_one_sentence(tmp_path):
    with pytest.raises(
        duelenv.UserError, match=r"^source is 3, expected the path of a config, the name of a suite, or"
    ):
        experiments.run(3)
    with pytest.raises(duelenv.UserError, match=r"^output is 3, expected the path of a run folder; change output$"):
        experiments.run(SMALL, output=3)
    with pytest.raises(duelenv.UserError, match=r"^folder is None, expected the path of a run folder"):
        experiments.open(None)
    with pytest.raises(duelenv.UserError, match="is not a run directory: nothing is there; 'duelenv run CONFIG'"):
        experiments.open(tmp_path / "nowhere")
    with pytest.raises(duelenv.UserError, match=r"it has no config\.yaml; name the folder"):
        experiments.open(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_temporary_folder_stays_where_the_run_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def passive_that(fails):
        class Fails:
            def __init__(self, inner):
                self.inner = inner

            def __getattr__(self, name):
                return getattr(self.inner, name)

            def act(self, observation):
                if fails:
                    raise ArithmeticError("that")
                return self.inner.act(observation)

        return lambda view, seed, settings: Fails(AGENTS["passive"](view, seed, settings))

    monkeypatch.setattr(AGENTS, "_parts", dict(AGENTS._parts))
    AGENTS.register("mine_that_fails", passive_that(fails=True))
    changes = {"agents": ["passive", "mine_that_fails"], "backend": "threading", "progress": False}
    with pytest.raises(CellFailed, match="ArithmeticError: that") as failed:
        experiments.run(SMALL, **changes)
    (folder,) = tmp_path.glob("duelenv-*/run")
    error = folder / "cells" / "mine_that_fails-seeds3" / "error.txt"
    assert repr(str(error)) in str(failed.value)
    assert "ArithmeticError: that" in error.read_text()
    assert f"give output={str(folder)!r} to go on there" in failed.value.__notes__[-1]
    AGENTS._parts["mine_that_fails"] = passive_that(fails=False)
    assert experiments.run(SMALL, output=folder, **changes).agents == ["passive", "mine_that_fails"]


def test_a_refused_run_leaves_no_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(duelenv.UserError, match="'nobody'"):
        experiments.run(SMALL, agents=["passive", "nobody"], progress=False)
    with pytest.raises(duelenv.UserError, match="'dims'"):
        experiments.run(SMALL, **{"env.dims": 3}, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_agent_of_the_session_plays_in_this_process():
    name = "mine_of_this_session"

    @agents.register(name)
    def build(view, seed, settings):
        return AGENTS["passive"](view, seed, settings)

    run = experiments.run(SMALL, agents=["passive", name], backend="threading", progress=False)
    assert run.agents == ["passive", name]
    assert run.comparisons["difference"].to_pylist() == [0.0]  # the same agent with the same seeds


# Tables ---------------------------------------------------------------------------------------------------------------


def test_comparisons_are_paired_by_seed(tmp_path):
    run = Run(policy_run(tmp_path / "made"))
    rows = {row["agent"]: row for row in run.comparisons.to_pylist()}
    assert list(rows) == ["better", "alike"]
    gain = np.subtract(FINAL["better"], FINAL["passive"])
    row = rows["better"]
    assert row["difference"] == pytest.approx(gain.mean())
    half = 3.182446 * gain.std(ddof=1) / 2  # Student's t with three degrees of freedom
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((gain.mean() - half, gain.mean() + half))
    assert (row["baseline"], row["metric"], row["seeds"], row["verdict"]) == ("passive", "win_rate", 4, "better")
    assert row["caution"].startswith("of only 4 seeds")
    assert rows["alike"]["verdict"] == "no difference shown"
    assert row["p_value"] < row["corrected_p_value"] == pytest.approx(2 * row["p_value"])


def test_final_values_are_means_over_seeds(tmp_path):
    final = {row["agent"]: row for row in Run(policy_run(tmp_path / "made")).final.to_pylist()}
    for agent, values in FINAL.items():
        assert final[agent]["win_rate"] == pytest.approx(np.mean(values))
        assert final[agent]["win_rate_low"] < np.mean(values) < final[agent]["win_rate_high"]
        assert (final[agent]["labels"], final[agent]["seeds"]) == (20, 4)


def test_what_was_not_measured_is_null(tmp_path):
    curves = Run(policy_run(tmp_path / "made")).curves
    known = [row for row in curves.to_pylist() if row["step"] == 5]
    assert {row["regret_average"] for row in known} == {4.0}
    folder = tmp_path / "numbers"
    folder.mkdir()
    final = {row["agent"]: row for row in Run(numeric_run(folder)).final.to_pylist()}
    assert final["(longest response)"]["labels"] is None
    assert final["(longest response)"]["simple_regret"] == 2.0


def test_regret_has_its_growth(tmp_path):
    run = Run(regret_run(tmp_path / "made", {"random": 1.0, "rucb": 0.5}))
    rows = {row["agent"]: row for row in run.regret.to_pylist()}
    assert rows["rucb"]["slope"] == pytest.approx(0.5)
    assert rows["rucb"]["regret_average"] == pytest.approx(2 * 1000**0.5)
    assert rows["random"]["slope"] == pytest.approx(1.0)
    with pytest.raises(duelenv.UserError, match="no table of regret"):
        _ = Run(policy_run(tmp_path / "policy")).regret


def test_duels_are_those_of_the_run(tmp_path, done):
    duels = Run(policy_run(tmp_path / "made")).duels
    assert duels.num_rows == 3 * 4 * 20
    with pytest.raises(duelenv.UserError, match="label_log=True"):
        _ = done.duels


def test_tables_can_be_data_frames(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    folder = policy_run(tmp_path / "made")
    run = Run(folder, frame="pandas")
    assert isinstance(run.comparisons, pandas.DataFrame)
    assert run.curves.groupby("agent")["win_rate"].max()["better"] == max(FINAL["better"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(duelenv.UserError, match=r"pip install 'duelenv\[pandas\]'"):
        Run(folder, frame="pandas")


# Figures and notebooks ------------------------------------------------------------------------------------------------


def test_a_figure_shows_the_agents_that_are_named(tmp_path):
    run = Run(policy_run(tmp_path / "made"))
    figure = run.plot(agents=["passive", "better"])
    (axes,) = figure.axes
    ends = sorted(float(line.get_ydata()[-1]) for line in axes.lines if len(line.get_xdata()) == 3)
    assert ends == pytest.approx(sorted(np.mean(FINAL[agent]) for agent in ("passive", "better")))
    assert axes.get_xlabel() == "labels (oracle queries)"
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert run.agents == ["passive", "better", "alike"]


def test_a_figure_can_be_drawn_over_another_column_and_into_axes_of_ones_own(tmp_path):
    from matplotlib.figure import Figure

    run = Run(policy_run(tmp_path / "made"))
    own = Figure()
    left, _ = own.subplots(1, 2)
    assert run.plot("kl", x="seconds", ax=left) is own
    assert left.get_xlabel() == "time (s)"
    assert {float(line.get_xdata()[-1]) for line in left.lines if len(line.get_xdata()) == 3} == {1.0}


def test_what_is_not_there_is_not_drawn(tmp_path):
    run = Run(policy_run(tmp_path / "made"))
    for wrong in ({"metric": "win_rat"}, {"x": "time"}, {"agents": ["bettr"]}, {"agents": []}):
        with pytest.raises(duelenv.UserError):
            run.plot(**wrong)


def test_a_notebook_gets_plain_html(tmp_path):
    run = Run(policy_run(tmp_path / "made", agents={"passive": [0.7, 0.7], "better": [0.8, 0.9]}, seeds=2))
    page = run._repr_html_()
    assert page.count("<tr>") == 3
    assert "<td>better</td>" in page
    assert "<b>" not in _as_html(replace(tables(run.results)[0], title=NASTY))


def test_no_terminal_control_reaches_what_is_no_terminal(tmp_path):
    script = f"import duelenv; print(duelenv.experiments.run({SMALL!r}))"
    played = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    for said in (played.stdout, played.stderr):
        assert all(letter == "\n" or letter.isprintable() for letter in said)
    assert "thompson, 3 seeds" in played.stderr
    assert "no difference shown" in played.stdout
