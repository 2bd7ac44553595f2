"""Bounds on regret in the report, of runs with worlds of several kinds."""

import pytest

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.report.bounds_view import bounds_view
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run


@pytest.mark.parametrize(
    ("variants", "worlds"),
    [({"small": {}, "large": {"dim": 6}}, {"-", "dim = 6"}), ({}, None)],
)
def test_a_world_without_settings_beside_one_with_some(variants, worlds, tmp_path):
    raw = {
        "name": "bounds",
        "env": {"id": "duelenv/FeatureDuel-v0", "num_candidates": 4, "dim": 3, "horizon": 12},
        "agents": ["passive"],
        "seeds": 2,
        "jobs": 1,
    }
    run(RunConfig.from_dict(raw | ({"variants": variants} if variants else {})), tmp_path / "run", progress=False)
    view = bounds_view(Results(tmp_path / "run"))
    rows = [row for group in view.groups for row in group.rows]
    assert {len(row.cells) for row in rows} == {len(view.header)}
    if worlds is not None:
        assert view.header[0] == "world" and {row.cells[0].lead for row in rows} == worlds
    assert write_report(tmp_path / "run").is_file()
