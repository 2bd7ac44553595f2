"""`env.matrix` as rows, file or generator; and agents in several variants of a world."""

import numpy as np
import pytest

from duelenv import UserError
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.worlds import make_matrix
from duelenv.experiments.running.assembly import make_environment
from duelenv.oracles import matrices

RUN = {"name": "tiny", "env": {"id": "MatrixDuel"}, "agents": ["random"], "baseline": "random"}


def test_a_generator_is_named_with_its_settings():
    utilities = [1.0, 0.0, -1.0]
    assert np.array_equal(
        make_matrix({"name": "bradley_terry", "utilities": utilities}), matrices.bradley_terry(utilities)
    )
    assert np.array_equal(make_matrix("savage_hard"), matrices.savage_hard())


def test_rows_and_files_mean_themselves(tmp_path):
    matrix = matrices.arithmetic(4)
    np.save(tmp_path / "matrix.npy", matrix)
    assert np.array_equal(make_matrix(str(tmp_path / "matrix.npy")), matrix)
    assert np.array_equal(make_matrix(matrix.tolist()), matrix)


def test_the_world_plays_the_named_matrix():
    config = RunConfig.from_dict(RUN | {"env": {"id": "MatrixDuel", "matrix": {"name": "cyclic", "num_arms": 5}}})
    env = make_environment(config)
    assert env.unwrapped.num_candidates == 5
    env.close()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"utilities": [1, 2]}, "no 'name'"),
        ({"name": "bradley"}, "did you mean 'bradley_terry'"),
        ({"name": "cyclic", "arms": 3}, "no setting 'arms'"),
        ({"name": "bradley_terry"}, "needs the setting 'utilities'"),
        ([[0.5, 0.7], [0.7, 0.5]], "expected 1"),
        ("gone.npy", "does not exist"),
    ],
)
def test_a_wrong_matrix_is_one_sentence(setting, named):
    with pytest.raises(UserError, match=named):
        make_matrix(setting)


def test_every_agent_meets_every_variant():
    raw = RUN | {
        "env": {"id": "FeatureDuel", "dim": 3},
        "agents": {"random": {}, "slow": {"name": "thompson", "env": {"scale": 1.0}}},
        "variants": {"d4": {"dim": 4}, "d5": {"dim": 5}},
        "baseline": "random-d4",
    }
    config = RunConfig.from_dict(raw)
    assert [agent.label for agent in config.agents] == ["random-d4", "slow-d4", "random-d5", "slow-d5"]
    assert config.agent("slow-d5").name == "thompson"
    assert config.for_agent("slow-d5").env.settings == {"dim": 5, "scale": 1.0}
    assert RunConfig.from_dict(config.to_dict()) == config  # written out, it needs no variants


@pytest.mark.parametrize(
    ("variants", "named"),
    [
        ({"a": {"horizon": 5}}, "'variants.a.horizon' cannot differ"),
        ({"a-b": {}}, "The variant 'a-b'"),
        ({"a": 3}, "'variants.a' is 3"),
    ],
)
def test_a_wrong_variant_is_one_sentence(variants, named):
    with pytest.raises(UserError, match=named):
        RunConfig.from_dict(RUN | {"variants": variants})
