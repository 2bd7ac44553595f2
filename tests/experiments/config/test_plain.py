"""Settings from Python: numbers of NumPy, ranges, tuples and paths are what YAML would have said."""

import json
from pathlib import Path

import numpy as np
import pytest

from duelenv import experiments
from duelenv.experiments.config.plain import in_plain
from duelenv.experiments.config.run_config import RunConfig

RAW = {"name": "own", "env": {"id": "FeatureDuel", "dim": 2, "horizon": 4}, "agents": ["passive"], "seeds": [0, 1, 2]}


@pytest.mark.parametrize("seeds", [range(3), np.arange(3), (0, 1, 2), [np.int64(0), np.uint8(1), 2], np.int32(3), 3])
def test_seeds_are_the_same_however_python_counts(seeds):
    config = RunConfig.from_dict({**RAW, "seeds": seeds})
    assert config == RunConfig.from_dict(RAW)
    assert all(type(seed) is int for seed in config.seeds)


def test_settings_deep_inside_are_plain():
    agent = {"prior_precision": np.float64(0.5), "report": np.bool_(True), "layers": (np.int64(3), {"a": np.ones(2)})}
    config = RunConfig.from_dict({**RAW, "agents": {"passive": agent}, "data": Path("pool.jsonl")})
    told = json.loads(json.dumps(config.to_dict()))
    assert told["agents"]["passive"] == {
        "name": "passive",
        "prior_precision": 0.5,
        "report": True,
        "layers": [3, {"a": [1.0, 1.0]}],
    }
    assert config.data == {"path": str(Path.cwd() / "pool.jsonl")}


def test_what_nobody_knows_is_left_to_be_refused():
    what = object()
    assert in_plain({"a": [what]})["a"][0] is what


def test_a_run_from_python_takes_them():
    env = {"id": "FeatureDuel", "dim": np.int64(2), "horizon": np.int32(4), "scale": np.float32(0.5)}
    run = experiments.run(RAW, env=env, seeds=range(2), progress=False)
    assert run.config.seeds == (0, 1)
    assert run.curves.num_rows > 0
