"""Results: what is read from a run directory."""

import pytest
import yaml
from made_up_runs import policy_run

from duelenv import UserError
from duelenv.experiments.loading import load
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


def test_not_a_run_directory(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        Results(tmp_path)
