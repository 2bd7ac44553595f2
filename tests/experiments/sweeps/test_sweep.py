"""Sweeps: what is tried, what it costs in labels, which is best, and that the seeds that confirm chose nothing."""

import math

import numpy as np
import pytest
import yaml

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.sweeps.plan import read_sweep
from duelenv.experiments.sweeps.space import Choice, Range, read_space
from duelenv.experiments.sweeps.sweep import play

BASE = {
    "name": "swept",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3},
    "agents": ["passive", "thompson"],
    "budget": {"labels": 8},
    "seeds": 3,
    "evaluate_every": 4,
    "jobs": 1,
}
PRECISION, OBJECTIVE, DIM = "agents.thompson.prior_precision", "agents.thompson.objective", "env.dim"
GRID = {PRECISION: [0.1, 1.0], OBJECTIVE: ["explore_exploit", "best_arm"]}


def sweep(**changes):
    section = {"agent": "thompson", "search": "grid", "labels": 1000, "settings": GRID}
    return read_sweep(BASE, {**section, **changes})


def test_values_stand_for_parts_of_the_unit_interval():
    assert [Choice(("a", "b", "c")).at(u) for u in (0.0, 0.34, 0.67, 0.999)] == ["a", "b", "c", "c"]
    assert [Range("int", 2, 4).at(u) for u in (0.0, 0.34, 0.67, 0.999)] == [2, 3, 4, 4]
    assert Range("uniform", -1.0, 3.0).at(0.25) == 0.0
    assert math.isclose(Range("log_uniform", 0.01, 100.0).at(0.5), 1.0)


def test_a_grid_is_every_combination_and_a_range_has_none():
    assert read_space(GRID).grid() == [
        {PRECISION: 0.1, OBJECTIVE: "explore_exploit"},
        {PRECISION: 0.1, OBJECTIVE: "best_arm"},
        {PRECISION: 1.0, OBJECTIVE: "explore_exploit"},
        {PRECISION: 1.0, OBJECTIVE: "best_arm"},
    ]
    with pytest.raises(UserError, match="is a range: list its values"):
        read_space({PRECISION: {"uniform": [0, 1]}}).grid()


def test_a_longer_random_search_begins_with_the_trials_of_a_shorter_one():
    space = {PRECISION: {"log_uniform": [0.1, 10]}}
    few, many = (
        sweep(search="random", labels=labels, settings=space).trials() for labels in (8 * 3 * 2, 8 * 3 * 5 + 23)
    )
    assert len(few) == 2
    assert len(many) == 5
    assert many[:2] == few
    drawn = [read_space(space).draw(0, number)[PRECISION] for number in range(2000)]
    assert abs(np.mean(np.log(drawn))) < 3 * np.log(100) / math.sqrt(12 * 2000)


def test_labels_are_those_of_the_whole_sweep():
    # 4 trials x 3 seeds x 8 labels, and 2 x 5 seeds x 8 labels to confirm.
    assert len(sweep(labels=4 * 24 + 80, confirm=5).trials()) == 4
    with pytest.raises(UserError, match="the grid of 4 trials takes 176"):
        sweep(labels=4 * 24 + 79, confirm=5)
    with pytest.raises(UserError, match="one trial with its confirmation takes 104"):
        sweep(search="random", labels=103, confirm=5)


def test_trials_are_ordinary_runs_and_the_best_is_confirmed_on_other_seeds(tmp_path):
    swept = sweep(confirm=4, settings={**GRID, DIM: [3, 5]})
    trials, metric, best, confirmed = play(swept, tmp_path, progress=False)
    assert metric == "simple_regret"
    assert best.value.mean == min(trial.value.mean for trial in trials)
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name.split("-")[0] for name in folders] == ["confirm3", "confirm3", "trials", "trials"]
    spent = 0
    for name in folders:
        results = Results(tmp_path / "runs" / name)
        for agent in results.agents:
            spent += sum(results.final(agent, "queries").values()) if name.startswith("trials") else 0
        seeds = {seed for agent in results.agents for seed in results.seeds(agent)}
        assert seeds == ({0, 1, 2} if name.startswith("trials") else {3, 4, 5, 6})
    assert spent == 8 * 3 * 8
    assert confirmed.seeds == (3, 6)
    assert math.isclose(confirmed.difference.mean, confirmed.best.mean - confirmed.before.mean, abs_tol=1e-12)
    (number,) = [
        trial.number for trial in trials if trial.settings == {PRECISION: 1.0, OBJECTIVE: "explore_exploit", DIM: 5}
    ]
    alone = read_sweep({**BASE, "env": {**BASE["env"], "dim": 5}}, {
        "agent": "thompson", "search": "grid", "labels": 24, "settings": {PRECISION: [1.0]}
    })  # fmt: skip
    assert play(alone, tmp_path / "alone", progress=False)[0][0].value == trials[number].value
    assert play(swept, tmp_path, progress=False)[0] == trials  # read again, nothing is played


def test_the_command_prints_the_trials_the_best_and_a_warning(tmp_path, capsys):
    path = tmp_path / "swept.yaml"
    section = {"agent": "thompson", "search": "grid", "labels": 500, "settings": GRID}
    path.write_text(yaml.safe_dump({**BASE, "sweep": section}))
    assert main(["sweep", str(path), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "do not report its figure" in shown
    assert main(["sweep", str(path), "sweep.confirm=2", "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "confirmed on seeds 3 to 4, none of which chose" in shown
    assert (tmp_path / "out" / "sweep.txt").read_text().strip() in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "thomson"}, "did you mean 'thompson'"),
        ({"serch": "grid"}, "did you mean 'search'"),
        ({"labels": None}, "'sweep' has no 'labels'"),
        ({"settings": {}}, "'sweep.settings' is empty"),
        ({"settings": {PRECISION: 3}}, "expected a list of values"),
        ({"settings": {PRECISION: {"loguniform": [1, 2]}}}, "did you mean 'log_uniform'"),
        ({"settings": {PRECISION: {"log_uniform": [0, 2]}}}, "above 0 for a log"),
        ({"settings": {PRECISION: {"int": [3, 1]}}}, "expected low < high"),
        ({"settings": {PRECISION: []}}, "no value for"),
    ],
)
def test_a_wrong_sweep_is_one_sentence(changes, message):
    with pytest.raises(UserError) as caught:
        sweep(**changes)
    assert message in str(caught.value)


def test_a_base_without_labels_is_refused():
    with pytest.raises(UserError, match=r"set 'budget\.labels'"):
        read_sweep(
            {**BASE, "budget": {}, "env": {**BASE["env"], "horizon": 4}},
            {"agent": "thompson", "labels": 100, "settings": GRID},
        )


def test_a_refused_sweep_leaves_no_folder_behind(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = {"agent": "thompson", "search": "grid", "labels": 1000, "settings": {"agents.thompson.precison": [1.0]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**BASE, "sweep": section}))
    assert main(["sweep", "sweep.yaml"]) == 2
    assert "reads no setting 'precison'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
