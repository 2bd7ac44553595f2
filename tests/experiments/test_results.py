"""Results: what is read from a run directory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up_runs import policy_run, regret_run

from duelenv import UserError
from duelenv.experiments.loading import load
from duelenv.experiments.regret import tables
from duelenv.experiments.report import write_report
from duelenv.experiments.results import Results
from duelenv.experiments.runner import run


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
