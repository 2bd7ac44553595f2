"""What a forest plot shows: the differences of the first table, by world, the best first."""

import pytest
from made_up_runs import numeric_run, policy_run, regret_run

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.forest import forests
from duelenv.experiments.tables.regret import tables


def of(directory):
    results = Results(directory)
    return forests(results, tables(results))


def test_rows_are_the_differences_of_the_table_the_best_first(tmp_path):
    (forest,) = of(policy_run(tmp_path))
    assert [row.name for row in forest.rows] == ["better", "alike"]
    assert (forest.metric, forest.baseline, forest.better, forest.family) == ("win_rate", "passive", "higher", 2)
    best = forest.rows[0]
    assert best.alone.mean == pytest.approx(0.1)
    assert best.alone.shows_difference
    assert best.corrected.low < best.alone.low  # of two, the surer one is held against half the level
    assert best.corrected.low > 0


def test_where_lower_is_better_the_lowest_comes_first(tmp_path):
    (forest,) = of(regret_run(tmp_path, {"random": 1.0, "b": 0.9, "a": 0.5}))
    assert forest.metric == "regret_average"
    assert [row.name for row in forest.rows] == ["a", "b"]
    assert forest.name == "differences"


def test_each_world_has_its_own_and_one_correction_holds_for_all_of_the_regret_table(tmp_path):
    agents, variants = {"random": 1.0, "a": 0.5}, {"x": {"feedback": "bernoulli"}, "y": {"feedback": "argmax"}}
    made = of(regret_run(tmp_path, agents, variants=variants, baseline="random-x"))
    assert [forest.title for forest in made] == ["feedback = bernoulli", "feedback = argmax"]
    assert [[row.name for row in forest.rows] for forest in made] == [["a"], ["a"]]
    assert {forest.family for forest in made} == {2}


def test_a_rule_that_learns_nothing_is_no_row_and_one_seed_has_no_forest(tmp_path):
    (tmp_path / "a").mkdir()
    (forest,) = of(numeric_run(tmp_path / "a"))
    assert [row.name for row in forest.rows] == ["real"]
    single = {agent: [0.7] for agent in ("passive", "better")}
    assert of(policy_run(tmp_path / "b", seeds=1, agents=single)) == []
