"""Parts of a user's own in one file, each registered by a decorator and named in a config: `duelenv run` plays them."""

import json

import gymnasium
import pytest
import yaml
from interrupts import stop_after

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
    for world in ("mine/Few-v0", "mine/Mirrored-v0"):
        gymnasium.registry.pop(world, None)


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


WRAPPED = """
from gymnasium.vector import VectorObservationWrapper

import duelenv
from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

class Mirrored(VectorObservationWrapper):
    def observations(self, observations):
        return {**observations, "features": -observations["features"]}

@duelenv.register_world("mine/Mirrored-v0")
def mirrored(*, num_envs=1, batch=1, horizon=60, dim=3):
    return Mirrored(FeatureDuelVectorEnv(num_envs=num_envs, batch=batch, horizon=horizon, dim=dim))
"""


@pytest.mark.parametrize(("taken", "given"), [("batch=1", "batch=batch, "), ("**others", "**others, "), ("", "")])
@pytest.mark.usefixtures("_left_as_it_was")
def test_a_world_is_given_the_batch_where_it_takes_it_and_refused_where_it_does_not(tmp_path, capsys, taken, given):
    signature = "(*, num_envs=1, batch=1, horizon=60, dim=3)"
    inside = WRAPPED.replace(signature, f"(*, num_envs=1, horizon=60, dim=3, {taken})").replace("batch=batch, ", given)
    (tmp_path / "mine.py").write_text(f"{inside}# of {tmp_path}")
    config = {"name": "own", "agents": ["passive"], "seeds": 2, "modules": ["mine.py"], "jobs": 1}
    config["env"] = {"id": "mine/Mirrored-v0", "horizon": 4, "batch": 3}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    code = main(["run", str(tmp_path / "own.yaml"), "--output", str(tmp_path / "run")])
    if taken:
        assert code == 0
        assert sum(Results(tmp_path / "run").final("passive", "queries").values()) == 2 * 3 * 4
    else:
        assert code == 2
        assert "The world 'mine/Mirrored-v0' takes no 'env.batch': leave it out" in capsys.readouterr().err


def play_mirrored(folder, name, horizon=60):
    (folder / "mine.py").write_text(f"{WRAPPED}# of {folder}")  # a file that was loaded before is not loaded again
    config = {"name": "own", "agents": ["thompson"], "baseline": "thompson", "seeds": 4, "modules": ["mine.py"]}
    config |= {"env": {"id": "mine/Mirrored-v0", "horizon": horizon}, "jobs": 1, "checkpoint_seconds": 0}
    (folder / "own.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(folder / "own.yaml"), "--output", str(folder / name)]) == 0
    return Results(folder / name)


@pytest.mark.usefixtures("_left_as_it_was")
def test_a_wrapped_world_shows_agents_in_evaluations_what_it_shows_them_in_rounds(tmp_path):
    """What was learnt in the mirror, where every sign is the other, would choose the worst outside of it."""
    _, regret = play_mirrored(tmp_path, "run").curve("thompson", "simple_regret")
    assert (regret[:, -1] < regret[:, 0] / 2).all()


@pytest.mark.usefixtures("_left_as_it_was")
def test_an_interrupted_run_of_a_wrapped_world_ends_alike(tmp_path, monkeypatch):
    whole = play_mirrored(tmp_path, "whole", horizon=20)
    with monkeypatch.context() as patched:
        stop_after(patched, 7)
        assert main(["run", str(tmp_path / "own.yaml"), "--output", str(tmp_path / "cut")]) != 0
    cut = play_mirrored(tmp_path, "cut", horizon=20)
    for metric in ("simple_regret", "regret_average"):
        assert cut.final("thompson", metric) == whole.final("thompson", metric)
