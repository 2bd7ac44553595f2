"""Results: what is read from a run directory."""

import pytest
import yaml
from made_up_runs import policy_run

from duelenv import UserError
from duelenv.experiments.results import Results


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


def test_not_a_run_directory(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        Results(tmp_path)
