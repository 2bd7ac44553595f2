"""Every piece of Python in the documentation runs as it stands."""

import copy

import gymnasium
import pytest
from pages import PAGES, blocks, name_of

from duelenv.agents.asking import ASK, PROMPTS
from duelenv.agents.base import AGENTS
from duelenv.agents.bonuses import BONUSES
from duelenv.agents.losses import LOSSES
from duelenv.agents.parts import BELIEFS
from duelenv.agents.teaching import TEACHING
from duelenv.experiments.running.backends import BACKENDS
from duelenv.experiments.trackers import TRACKERS
from duelenv.labels.stage import STAGES
from duelenv.oracles.base import ORACLES
from duelenv.policies.samplers import SAMPLERS
from duelenv.worlds.encoders import ENCODERS

REGISTRIES = (
    AGENTS, ASK, BACKENDS, BELIEFS, BONUSES, ENCODERS, LOSSES, ORACLES, PROMPTS, SAMPLERS, STAGES, TEACHING, TRACKERS
)  # fmt: skip
#: What they print has a test of its own: `test_readme.py`, `test_python_page.py` and `test_notebook.py`.
ELSEWHERE = ("README.md", "docs/python.md", "docs/first_look.md")
WITH_CODE = [
    page for page in PAGES if name_of(page) not in ELSEWHERE and any(b.language == "python" for b in blocks(page))
]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A page may register parts and write files: afterwards there are none."""
    monkeypatch.chdir(tmp_path)
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_parts", copy.copy(registry._parts))
    worlds = set(gymnasium.registry)
    yield
    for world in set(gymnasium.registry) - worlds:
        del gymnasium.registry[world]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_python_on_the_page_runs(page):
    for block in blocks(page):
        if block.language == "python" and not block.note:
            exec(compile("\n" * (block.line - 1) + block.text, name_of(page), "exec"), {"__name__": "page"})


def test_what_does_not_run_says_why_and_is_little():
    left_out = [block.note for page in WITH_CODE for block in blocks(page) if block.language == "python" and block.note]
    assert all(len(note) > 10 for note in left_out)
    assert len(left_out) <= 4
