"""Every suite that is no study is played by the runner: that it can be read says nothing of what its agents return."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duelenv.experiments.config.loading import load, read_study_file, suites
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run

#: What makes it small; those left out are played whole in `test_regret`.
SMALLER = {
    "beliefs": ("agents={laplace_linear: {name: thompson, belief: laplace, units: 0}}", "baseline=laplace_linear"),
    "demo": ("env.num_envs=4",),
    "exact": (),
    "features": (),
    "pool": ("data=pool.parquet", "report_at=[]"),
    "robust": ("agents=[passive, ids]",),
}
ELSEWHERE = {"karmed", "contextual"}


def test_no_suite_is_left_out():
    assert {*SMALLER, *ELSEWHERE} == {name for name in suites() if read_study_file(name) is None}


@pytest.mark.parametrize("suite", SMALLER)
def test_a_suite_can_be_played(suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = [(f"p{prompt}", f"r{prompt}{one}") for prompt in range(8) for one in range(4)]
    table = {"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]}
    pq.write_table(pa.table({**table, "score": generator.normal(size=len(rows))}), "pool.parquet")
    config = load(suite, ["seeds=1", "env.horizon=3", "evaluate_every=3", "jobs=1", *SMALLER[suite]])
    run(config, tmp_path / "run", progress=False)
    results = Results(tmp_path / "run")
    assert len(results.agents) == len(config.agents)
