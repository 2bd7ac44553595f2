"""Labels to a target: where mean curves cross, against the baseline's own gain."""

import numpy as np
import pytest
from made_up_runs import add_column, change_config, numeric_run, regret_run

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.targets import target_table

STEPS = np.arange(0, 101, 10)


def run(folder, curves, better="higher", seeds=4):
    """A run whose agents have these curves of one label a round, a little apart by seed."""
    directory = regret_run(folder, dict.fromkeys(curves, 1.0), seeds=seeds, steps=STEPS)
    values = [curve(float(step)) + 0.001 * seed for curve in curves.values() for seed in range(seeds) for step in STEPS]
    add_column(directory, "score", values, from_agent=True)
    return Results(change_config(directory, metric="score", better=better))


def flat_after(end, height=1.0):
    return lambda step: height * min(step / end, 1.0)


def test_a_curve_that_rises_twice_as_fast_takes_half_the_labels(tmp_path):
    results = run(tmp_path, {"random": flat_after(60.0), "fast": flat_after(30.0), "slow": flat_after(200.0)})
    table = target_table(results, group_agents(results)[0])
    lines = {line.agent: line for line in table.lines}
    assert [line.agent for line in table.lines] == ["fast", "random", "slow"]
    assert table.target == pytest.approx(0.9, abs=0.01)
    assert lines["random"].labels.value == pytest.approx(54.0, abs=0.5)
    assert lines["fast"].labels.value == pytest.approx(27.0, abs=0.5)
    assert lines["fast"].ratio.value == pytest.approx(2.0, abs=0.05)
    assert lines["random"].ratio is None
    assert lines["slow"].never == 1.0
    assert np.isinf(lines["slow"].labels.value)
    assert lines["slow"].ratio.value == 0.0
    assert lines["fast"].labels.low <= lines["fast"].labels.value <= lines["fast"].labels.high
    assert table.cells()[2][1] == "> 100 [> 100, > 100]"
    assert [row.partition(",")[0] for row in table.csv().splitlines()] == ["agent", "fast", "random", "slow"]


def test_where_lower_is_better_the_curve_has_to_fall(tmp_path):
    falling = {"random": lambda step: 1.0 - flat_after(60.0)(step), "fast": lambda step: 1.0 - flat_after(30.0)(step)}
    results = run(tmp_path, falling, better="lower")
    table = target_table(results, group_agents(results)[0])
    assert table.target == pytest.approx(0.1, abs=0.01)
    assert table.lines[0].agent == "fast"
    assert table.lines[0].labels.value == pytest.approx(27.0, abs=0.5)


def test_there_is_no_target_where_the_baseline_gains_nothing(tmp_path):
    results = run(tmp_path, {"random": lambda step: 0.0, "fast": flat_after(30.0)})
    assert target_table(results, group_agents(results)[0]) is None


def test_one_seed_or_few_evaluations_say_nothing(tmp_path):
    single = run(tmp_path / "one", {"random": flat_after(60.0)}, seeds=1)
    assert target_table(single, group_agents(single)[0]) is None
    (tmp_path / "few").mkdir()
    few = Results(numeric_run(tmp_path / "few"))
    assert target_table(few, group_agents(few)[0]) is None


def test_cumulative_regret_is_no_height_and_simple_regret_stands_for_it(tmp_path):
    results = Results(regret_run(tmp_path, {"random": 1.0, "a": 0.5}))
    assert results.primary == "regret_average"
    assert target_table(results, group_agents(results)[0]) is None  # its simple regret does not move
