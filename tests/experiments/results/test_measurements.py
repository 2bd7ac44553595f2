"""Results: what is read from a run directory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up_runs import add_column, change_config, numeric_run, policy_run, regret_run

from duelenv import UserError
from duelenv.experiments.config.loading import load
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.tables.regret import tables


def test_nothing_is_regretted_before_the_first_duel(tmp_path):
    _, values = Results(policy_run(tmp_path)).curve("passive", "regret_average")
    assert (values[:, 0] == 0).all()
    assert values[:, 2].tolist() == [7, 8, 9, 10]


def test_an_unknown_metric_is_one_sentence(tmp_path):
    directory = policy_run(tmp_path)
    config = yaml.safe_load((directory / "config.yaml").read_text()) | {"metric": "win_rte"}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="did you mean 'win_rate'"):
        _ = Results(directory).primary


@pytest.mark.parametrize(("matrix", "shown"), [("arithmetic", "regret_average"), ("cyclic", "regret_von_neumann")])
def test_any_regret_is_the_first_that_the_world_knows(tmp_path, matrix, shown):
    config = tmp_path / "config.yaml"
    env = f"{{id: duelenv/MatrixDuel-v0, matrix: {{name: {matrix}, num_arms: 3}}, horizon: 4}}"
    config.write_text(f"name: any\nenv: {env}\nagents: [random]\nbaseline: random\nmetric: regret\n")
    run(load(str(config), []), tmp_path / "run")
    results = Results(tmp_path / "run")
    assert results.primary == results.regret == shown


def scaled_run(folder, metric, scale):
    """Results of a made-up run of `random` and `other` with so small a regret."""
    regret_run(folder, {"random": 1.0, "other": 0.5}, metric=metric)
    table = pq.read_table(folder / "results.parquet")
    small = pa.array(scale * table[metric].to_numpy())
    pq.write_table(table.set_column(table.column_names.index(metric), metric, small), folder / "results.parquet")
    return Results(folder)


def test_rounding_noise_is_no_regret(tmp_path):
    # Every arm of a cycle loses to none on average, up to rounding.
    results = scaled_run(tmp_path, "regret_von_neumann", 4e-17)
    _, values = results.curve("other", "regret_von_neumann")
    assert (values == 0).all()
    (table,) = tables(results)
    assert [np.isnan(line.slope.slope) for line in table.lines] == [True, True]
    assert "] no difference shown" in table.text()
    write_report(tmp_path)  # nor has the log-log figure anything to show


def test_small_regret_is_regret(tmp_path):
    results = scaled_run(tmp_path, "regret_average", 1e-6)
    assert [line.slope.slope for line in tables(results)[0].lines] == pytest.approx([0.5, 1.0])


def test_not_a_run_directory(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        Results(tmp_path)


def only(folder, *names):
    """Leaves the results these columns besides those of every run."""
    table = pq.read_table(folder / "results.parquet")
    kept = ["agent", "seed", "step", "queries", "gradient_steps", "seconds", *names]
    pq.write_table(table.select(kept), folder / "results.parquet")
    return folder


def test_an_agents_figure_is_compared_by_only_where_the_config_names_it(tmp_path):
    directory = only(policy_run(tmp_path), "kl")
    add_column(directory, "unanswered", 0.0)
    add_column(directory, "own", 1.0, from_agent=True)
    add_column(directory, "utility", 1.0, from_agent=True)  # as of an older version, which took any name
    assert Results(directory).primary == "kl"
    assert Results(change_config(directory, metric="own")).primary == "own"


def test_what_a_users_world_measures_is_compared_by_and_its_first(tmp_path):
    directory = only(policy_run(tmp_path))
    for name, from_agent in (("own", True), ("score", False), ("further", False), ("late", True)):
        add_column(directory, name, 1.0, from_agent=from_agent)
    results = Results(directory)
    assert results.primary == "score"
    assert results.better("score") is None


def test_regret_of_an_agents_own_making_is_no_regret(tmp_path):
    directory = add_column(only(policy_run(tmp_path), "win_rate"), "regret_utility", 0.0, from_agent=True)
    assert Results(directory).regret is None
    assert Results(policy_run(tmp_path / "measured")).regret == "regret_average"


def test_where_nothing_is_measured_the_labels_are_shown(tmp_path):
    assert Results(add_column(only(policy_run(tmp_path)), "own", 1.0, from_agent=True)).primary == "queries"


def test_which_way_is_better_is_declared_for_the_configs_metric_alone(tmp_path):
    directory = add_column(policy_run(tmp_path), "own", 1.0, from_agent=True)
    add_column(directory, "other", 1.0)
    results = Results(change_config(directory, metric="own"))
    assert results.better("own") is None
    results = Results(change_config(directory, metric="own", better="lower"))
    assert results.better("own") == "lower"
    assert results.better("other") is None
    assert results.better("win_rate") == "higher"
    results = Results(change_config(directory, metric="win_rate", better="lower"))
    with pytest.raises(UserError, match="but of 'win_rate' higher is better"):
        results.better("win_rate")


@pytest.mark.parametrize("name", ["regret_a/../../X", "..", ".", "a b", "\x1b[2J"])
@pytest.mark.parametrize("from_agent", [False, True])
def test_a_column_whose_name_would_not_do_as_a_file_is_refused(tmp_path, name, from_agent):
    directory = add_column(policy_run(tmp_path / "run"), name, 1.0, from_agent=from_agent)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"A column of '.*results.parquet' has the name") as caught:
        write_report(directory)
    assert str(caught.value).isprintable()
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table.drop_columns(["seed"]), "has no column 'seed'"),
        (lambda table: table.drop_columns(["queries"]), "has no column 'queries'"),
        (lambda table: table.append_column("kl", table["kl"]), "cannot be read as Parquet"),
        (lambda table: table.append_column("note", pa.array(["x"] * len(table))), "'note' .* is of string"),
        (lambda table: table.set_column(0, "agent", table["seed"]), "'agent' .* is of int64, expected text"),
        (lambda table: table.slice(0, 0), "no rows"),
        (lambda table: pa.concat_tables([table, table.slice(0, 1).select(["kl"])], promote_options="default"), "rows"),
    ],
)
def test_results_that_no_run_writes_are_one_sentence(tmp_path, change, named):
    directory = policy_run(tmp_path)
    pq.write_table(change(pq.read_table(directory / "results.parquet")), directory / "results.parquet")
    with pytest.raises(UserError, match=named):
        Results(directory)


def test_a_broken_file_of_results_is_one_sentence(tmp_path):
    directory = policy_run(tmp_path)
    (directory / "results.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        Results(directory)


def test_a_rule_whose_name_is_no_name_is_refused(tmp_path):
    directory = numeric_run(tmp_path)
    place = directory / "cells" / "passive-seeds3" / "references.json"
    place.write_text('{"best of 3": [1, 2, 3]}')
    assert "best of 3" in Results(directory).references(["passive"])
    place.write_text('{"\\u001b[2J": [1, 2, 3]}')
    with pytest.raises(UserError, match=r"references\.json' has a rule named"):
        Results(directory).references(["passive"])
