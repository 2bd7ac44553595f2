"""Folders of runs that failed before they did anything are taken over; those in which something is are not."""

import json

import pytest
from paid_runs import asked, paid_run, results

from duelenv import UserError
from duelenv.agents.base import AGENTS
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.vacancy import is_vacant
from duelenv.experiments.running.runner import CellFailed, run

AGENT = """
import numpy as np
from duelenv.agents import Agent, register

@register("mended")
class Mine(Agent):
    def __init__(self, view, seed, settings):
        super().__init__(view)

    def _act(self, observation):
        return np.tile([0, 1], (self.view.num_envs, 1))

    def _update(self, observation, actions, labels):
        assert RIGHT
        return {}

    def _recommend(self, observation):
        return np.zeros(self.view.num_envs, np.int64)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""


@pytest.fixture(autouse=True)
def _left_as_it_was(monkeypatch):
    monkeypatch.setattr(AGENTS, "_parts", dict(AGENTS._parts))


def written(folder, *, right):
    folder.mkdir(parents=True, exist_ok=True)
    source = AGENT.replace("RIGHT", str(right))
    (folder / "mine.py").write_text(f"{source}# {folder}\n")  # a file that was loaded registers nothing again
    return {"agents": ["mended"], "baseline": "mended"}


def config(folder, *, right):
    world = {"id": "FeatureDuel", "num_candidates": 3, "dim": 2, "horizon": 4}
    raw = {"name": "own", "env": world, "modules": [str(folder / "mine.py")], "jobs": 1, "seeds": 2}
    return RunConfig.from_dict(raw | written(folder, right=right))


@pytest.fixture
def failed(tmp_path):
    """A run folder whose only agent raised an exception in its first round."""
    with pytest.raises(CellFailed, match=r"AssertionError.*: correct the code and give the same command again"):
        run(config(tmp_path, right=False), tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_a_run_whose_code_was_mended_takes_over_a_folder_in_which_nothing_is(tmp_path, failed):
    assert failed.cell("mended-seeds2").error.is_file()
    run(config(tmp_path, right=True), failed.root)
    run(config(tmp_path, right=True), tmp_path / "new")
    assert results(failed.root).equals(results(tmp_path / "new"))
    names = {path.relative_to(failed.root) for path in failed.root.rglob("*")}
    assert names == {path.relative_to(tmp_path / "new") for path in (tmp_path / "new").rglob("*")}
    assert json.loads(failed.environment.read_text())["earlier"] == []


def test_cells_of_agents_that_are_no_more_are_removed(tmp_path, failed):
    run(
        RunConfig.from_dict({**config(tmp_path, right=True).to_dict(), "agents": ["passive"], "baseline": "passive"}),
        failed.root,
    )
    assert [path.name for path in failed.cells.iterdir()] == ["passive-seeds2"]


@pytest.mark.parametrize(
    "kept",
    [
        "cells/mended-seeds2/checkpoint.npz",
        "cells/mended-seeds2/done.json",
        "cells/mended-seeds2/diverged/agent.npz",
        "cells/mended-seeds2/ledger.copy",
        "cells/gone-seeds2/checkpoint.npz",
        "oracles/answers.jsonl",
        "purse.sqlite",
        "labels.parquet",
    ],
)
def test_a_folder_in_which_something_is_stays_with_its_run(tmp_path, failed, kept):
    assert is_vacant(failed)
    (failed.root / kept).parent.mkdir(parents=True, exist_ok=True)
    (failed.root / kept).write_text("something\n")
    with pytest.raises(UserError, match="'modules' holds something else"):
        run(config(tmp_path, right=True), failed.root)
    assert (failed.root / kept).read_text() == "something\n"
    assert failed.cell("mended-seeds2").error.is_file()


def test_answers_are_kept_and_the_refusal_says_how_to_begin_with_them(tmp_path):
    def paid(books, *, right):
        modules = [str(tmp_path / name) for name in ("paid_parts.py", "mine.py")]
        return paid_run(books, modules=modules, **written(tmp_path, right=right))

    paid_run(tmp_path)
    old, new, fresh = tmp_path / "run", tmp_path / "new", tmp_path / "fresh"
    with pytest.raises(CellFailed, match=f"'--output NEW --answers {old}' begins anew with the answers so far"):
        run(paid(tmp_path, right=False), old)
    assert asked(tmp_path)
    with pytest.raises(UserError, match=f"--output NEW, which with '--answers {old}' begins with the answers in here"):
        run(paid(tmp_path, right=True), old)
    run(paid(tmp_path, right=True), new, answers=old)
    run(paid(fresh, right=True), fresh / "run")
    assert asked(tmp_path) == asked(fresh)
