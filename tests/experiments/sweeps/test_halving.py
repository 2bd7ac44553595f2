"""Successive halving: which settings go on, what each rung costs, and what of it is played."""

import numpy as np
import pytest
import yaml

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.sweeps import dry, sweep
from duelenv.experiments.sweeps.halving import Halving, Rung, read_halving
from duelenv.experiments.sweeps.plan import read_sweep

PRECISION = "agents.thompson.prior_precision"
BASE = {
    "name": "swept",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3},
    "agents": ["passive", "thompson"],
    "budget": {"labels": 8},
    "seeds": 4,
    "evaluate_every": 4,
    "jobs": 1,
    "metric": "simple_regret",
}
SIX = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


def made(halving, values=SIX, base=BASE, **changes):
    section = {"agent": "thompson", "search": "grid", "labels": 1000, "settings": {PRECISION: values}}
    return read_sweep(base, {**section, "halving": halving, **changes})


@pytest.mark.parametrize(
    ("halving", "trials", "rungs", "spent"),
    [
        # 6 settings with a seed each, the better 3 with another, the best with the last two: (6 + 3 + 2) x 8 labels.
        (Halving(), 6, [Rung(6, slice(0, 1), 8), Rung(3, slice(1, 2), 8), Rung(1, slice(2, 4), 8)], 88),
        # Two are compared at the last where the numbers go into each other: (8 + 4 + 2 x 2) x 8.
        (Halving(), 8, [Rung(8, slice(0, 1), 8), Rung(4, slice(1, 2), 8), Rung(2, slice(2, 4), 8)], 128),
        (Halving(), 2, [Rung(2, slice(0, 4), 8)], 64),
        (Halving(), 1, [Rung(1, slice(0, 4), 8)], 32),
        # Two seeds at the least leave no room for a third rung: (6 x 2 + 3 x 2) x 8.
        (Halving(least=2), 6, [Rung(6, slice(0, 2), 8), Rung(3, slice(2, 4), 8)], 144),
        (Halving(least=5), 6, [Rung(6, slice(0, 4), 8)], 192),
        # 9 x 1 + 3 x 3 seeds, of 8 labels each.
        (Halving(factor=3), 9, [Rung(9, slice(0, 1), 8), Rung(3, slice(1, 4), 8)], 144),
        # All four seeds from the start in every rung: 4 x (6 x 2 + 3 x 4 + 1 x 8).
        (Halving("labels"), 6, [Rung(6, slice(0, 4), 2), Rung(3, slice(0, 4), 4), Rung(1, slice(0, 4), 8)], 128),
        (Halving("labels", least=3), 6, [Rung(6, slice(0, 4), 4), Rung(3, slice(0, 4), 8)], 192),
    ],
)
def test_rungs_and_what_they_cost_by_hand(halving, trials, rungs, spent):
    assert halving.rungs(trials, seeds=4, labels=8) == rungs
    assert sum(rung.spent for rung in rungs) == spent


def test_the_budget_pays_for_all_rungs_and_the_confirmation():
    # By hand above: 88 labels for the rungs of 6 trials, and 2 x 5 x 8 to confirm.
    assert len(made("seeds", labels=168, confirm=5).trials()) == 6
    with pytest.raises(UserError, match="the grid of 6 trials takes 168"):
        made("seeds", labels=167, confirm=5)


@pytest.mark.parametrize("halving", ["seeds", {"over": "labels", "least": 2}, {"over": "seeds", "factor": 3}])
def test_a_random_search_draws_as_many_trials_as_the_labels_pay_for(halving):
    searched = {"search": "random", "settings": {PRECISION: {"uniform": [0.1, 1]}}}
    for labels in (32, 63, 64, 100, 117, 300, 777):
        swept = made(halving, labels=labels, **searched)
        affordable = [count for count in range(1, 200) if swept.spent(count) <= labels]
        assert len(swept.trials()) == max(affordable), labels
    with pytest.raises(UserError, match="one trial with its confirmation takes 32"):
        made(halving, labels=31, **searched)


#: Of each trial with each seed, lower being better. After seed 0 trials 4, 2 and 0 lead, of which trial 0 is the best
#: by the mean of two seeds; trial 1, the best of all on the other seeds, has been left behind.
REGRET = {
    0: [0.30, 0.10, 0.2, 0.2],
    1: [0.90, 0.00, 0.0, 0.0],
    2: [0.20, 0.30, 0.2, 0.2],
    3: [0.40, 0.40, 0.4, 0.4],
    4: [0.10, 0.90, 0.9, 0.9],
    5: [0.50, 0.50, 0.5, 0.5],
}


@pytest.fixture
def told(monkeypatch):
    """Who played which seeds, in place of playing."""
    played = []

    def measured(swept, points, rung, root, progress):
        seeds = swept.config.seeds[rung.seeds]
        played.append((sorted(points), list(seeds), rung.labels))
        higher = swept.config.better == "higher"
        sign = -1 if higher else 1
        return {n: {seed: sign * REGRET[n][seed] for seed in seeds} for n in points}, "simple_regret", higher

    monkeypatch.setattr(sweep, "_measured", measured)
    return played


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_better_half_by_all_its_seeds_goes_on(tmp_path, told, better):
    trials, _, best, _ = sweep.play(made("seeds", base={**BASE, "better": better}), tmp_path)
    assert told == [([0, 1, 2, 3, 4, 5], [0], 8), ([0, 2, 4], [1], 8), ([0], [2, 3], 8)]
    assert best.number == 0
    assert [one.rungs for one in trials] == [3, 1, 2, 1, 2, 1]
    values = [abs(one.value.mean) for one in trials]
    np.testing.assert_allclose(values, [0.2, 0.9, 0.25, 0.4, 0.5, 0.5])


def test_over_labels_each_rung_is_judged_by_itself(tmp_path, told):
    trials, _, best, _ = sweep.play(made("labels"), tmp_path)
    # Means of four seeds: 0.2, 0.225, 0.225, 0.4, 0.7, 0.5; of equal ones the first drawn.
    assert told == [([0, 1, 2, 3, 4, 5], [0, 1, 2, 3], 2), ([0, 1, 2], [0, 1, 2, 3], 4), ([0], [0, 1, 2, 3], 8)]
    assert best.number == 0
    assert trials[0].value.mean == pytest.approx(0.2)


def test_a_trial_that_measured_nothing_is_left_behind(tmp_path, told, monkeypatch):
    monkeypatch.setitem(REGRET, 4, [np.nan] * 4)
    sweep.play(made("seeds"), tmp_path)
    assert told[1][0] == [0, 2, 3]


@pytest.mark.parametrize("over", ["seeds", "labels"])
def test_runs_ask_for_as_many_labels_as_was_said_and_are_not_played_twice(tmp_path, over):
    swept = made(over, values=[0.1, 1.0, 10.0], base={**BASE, "report_at": [2, 8]})
    first = sweep.play(swept, tmp_path, progress=False)
    asked = 0
    for folder in (tmp_path / "runs").iterdir():
        results = Results(folder)
        asked += sum(sum(results.final(agent, "queries").values()) for agent in results.agents)
    # Over seeds (3 x 2 + 1 x 2) x 8; over labels 4 x (3 x 4 + 1 x 8).
    assert asked == swept.spent(3) == {"seeds": 64, "labels": 80}[over]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.parquet")}
    assert sweep.play(swept, tmp_path, progress=False) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.parquet")} == times


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("sedes", "sweep.halving.over='sedes' is unknown: did you mean 'seeds'"),
        ({"over": "seeds", "by": 2}, "Unknown setting 'by' in 'sweep.halving'"),
        ({"factor": 1}, "'sweep.halving.factor' is 1, expected an integer of at least 2"),
        ({"least": 0}, "'sweep.halving.least' is 0"),
        (True, "'sweep.halving' is True, expected a mapping"),
    ],
)
def test_a_wrong_halving_is_one_sentence(raw, message):
    with pytest.raises(UserError) as caught:
        read_halving(raw)
    assert message in str(caught.value)


# What is said before --------------------------------------------------------------------------------------------------


def test_a_dry_sweep_says_cells_labels_and_time_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dry, "_cell_seconds", lambda config, label: 60.0)
    path = tmp_path / "swept.yaml"
    section = {
        "agent": "thompson", "search": "grid", "labels": 400, "confirm": 3, "halving": "seeds",
        "settings": {PRECISION: SIX[:3], "env.dim": [3, 5]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**BASE, "sweep": section}))
    assert main(["sweep", str(path), "--dry", "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "swept: 6 trials of 'thompson' by grid search, halving over seeds by 2; nothing was asked, and nothing is "
        "written"
    )
    rows = [line.split() for line in lines[3:7]]
    # Cells hold all seeds of a trial, a minute each, one at a time: 6 + 3 + 1 + 2.
    assert rows == [
        ["rung", "1", "6", "0", "8", "6", "48", "6", "min"],
        ["rung", "2", "3", "1", "8", "3", "24", "3", "min"],
        ["rung", "3", "1", "2", "to", "3", "8", "1", "16", "60", "s"],
        ["confirm", "2", "4", "to", "6", "8", "2", "48", "2", "min"],
    ]
    assert "labels   136 of the 400 that it may ask for" in lines
    assert any(line.startswith("time     about 12 min") for line in lines)
    assert not (tmp_path / "out").exists()


def test_the_time_of_cells_is_tried(monkeypatch):
    monkeypatch.setattr("duelenv.experiments.running.forecast._PROBE_SECONDS", 0.01)
    (only,) = dry.stages(made(None, values=[1.0, 2.0]))
    assert (only.name, only.trials, only.cells, only.spent) == ("trials", 2, 2, 64)
    assert 0 < only.seconds < 60
