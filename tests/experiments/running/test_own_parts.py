"""Parts of a user's own in one file, each registered by a decorator and named in a config: `duelenv run` plays them."""

import json

import gymnasium
import pytest
import yaml

from duelenv.agents.base import AGENTS
from duelenv.experiments.commands.cli import main
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.backends import BACKENDS
from duelenv.experiments.trackers import TRACKERS
from duelenv.labels.stage import STAGES
from duelenv.oracles.links import LINKS
from duelenv.worlds import WORLDS

MINE = """
import contextlib, json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import duelenv
from duelenv.agents.base import register
from duelenv.agents.parts import compose
from duelenv.experiments import trackers
from duelenv.experiments.running.backends import register_backend
from duelenv.labels.stage import Stage, register_stage
from duelenv.oracles.links import LINKS
from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

@duelenv.register_world("mine/Few-v0")
class Few(FeatureDuelVectorEnv):
    def __init__(self, num_envs, few=3, **settings):
        super().__init__(num_envs=num_envs, num_candidates=few, **settings)

@LINKS.register("mine_sure")
def sure(difference):
    return np.where(difference == 0, 0.5, (difference > 0).astype(float))

@register_stage("mine_turned")
class Turned(Stage):
    kind = "mine_turned"

    def alter(self, passing, uniforms, clock):
        return 1.0 - passing.label

@register("mine_pairs")
def pairs(view, seed, settings):
    return compose(view, seed, settings, name="mine_pairs", ask="best_worst")

@register_backend("mine_threads")
@contextlib.contextmanager
def threads(jobs, threads):
    with ThreadPoolExecutor(jobs) as executor:
        yield executor

@trackers.register("mine_lines")
class Lines:
    def __init__(self, path):
        self.path = Path(path)

    def start(self, cell, config):
        self.cell = cell.name

    def log(self, step, figures):
        with self.path.open("a") as file:
            file.write(json.dumps([self.cell, step, figures["simple_regret"]]) + "\\n")

    def close(self, failed):
        pass
"""


@pytest.fixture
def _left_as_it_was(monkeypatch):
    for registry in (AGENTS, BACKENDS, TRACKERS, STAGES, LINKS, WORLDS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    yield
    gymnasium.registry.pop("mine/Few-v0", None)


@pytest.mark.usefixtures("_left_as_it_was")
def test_a_config_names_parts_of_every_kind_that_one_file_registers(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    config = {
        "name": "own",
        "env": {"id": "mine/Few-v0", "few": 4, "dim": 2, "horizon": 8, "link": "mine_sure", "stages": ["mine_turned"]},
        "agents": ["passive", "mine_pairs"],
        "seeds": 2,
        "evaluate_every": 4,
        "backend": "mine_threads",
        "trackers": [{"name": "mine_lines", "path": str(tmp_path / "lines"), "strict": True}],
        "modules": ["mine.py"],
        "jobs": 1,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(tmp_path / "own.yaml"), "--output", str(tmp_path / "run")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert sorted({cell for cell, _, _ in lines}) == ["mine_pairs-seeds2", "passive-seeds2"]
    last = {cell: regret for cell, step, regret in lines if step == 8}
    results = Results(tmp_path / "run")
    for agent in ("passive", "mine_pairs"):
        values = results.final(agent, "simple_regret")
        assert last[f"{agent}-seeds2"] == pytest.approx(sum(values.values()) / 2)
