"""The pages of the documentation: no agent is missing, defaults are those of the code."""

import dataclasses
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import duelenv  # noqa: F401  registers the worlds
from duelenv import agents
from duelenv.agents import base
from duelenv.experiments.config.loading import load, suites
from duelenv.labels import stage_names
from duelenv.labels.stage import STAGES

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ("karmed.md", "contextual.md", "alignment.md", "labels.md", "pools.md", "exact.md")
WORLDS = {
    "karmed.md": ("duelenv/MatrixDuel-v0", {"matrix": [[0.5, 0.6], [0.4, 0.5]]}),
    "contextual.md": ("duelenv/FeatureDuel-v0", {}),
}
#: Settings of the parts that several agents share, which a page explains once.
SHARED = {"belief", "temperature", "prior_precision", "estimator", "refit_every"}


def rows(page):
    """Agent and settings of each row of a page's table of agents."""
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        name = re.match(r" \[`(\w+)`\]", cells[1]) if len(cells) > 4 else None
        if name:
            yield name.group(1), dict(re.findall(r"`(\w+)` ([^,|]+?)(?=,|\s*$)", cells[-2]))


def defaults(agent, world, settings, monkeypatch):
    """All settings that an agent reads in a world, with their defaults."""
    found = {}
    take = base.SettingsReader.take

    def spy(self, kind, **own):
        for item in dataclasses.fields(kind):
            found[item.name] = own.get(item.name, item.default)
        return take(self, kind, **own)

    monkeypatch.setattr(base.SettingsReader, "take", spy)
    env = gymnasium.make_vec(world, num_envs=1, horizon=10, **settings)
    agents.make(agent, env, seed=0)
    env.close()
    return found


@pytest.mark.parametrize("page", WORLDS)
def test_settings_are_those_of_the_code(page, monkeypatch):
    world, settings = WORLDS[page]
    for agent, listed in rows(page):
        known = defaults(agent, world, settings, monkeypatch)
        assert listed == {name: repr(known[name]) for name in listed}, agent
        assert known.keys() - SHARED <= listed.keys(), agent


def test_settings_of_stages_are_those_of_the_code():
    listed = {}
    for line in (DOCS / "labels.md").read_text(encoding="utf-8").splitlines():
        found = re.match(r"\| `(\w+)` \|.*\| ([^|]*) \|$", line)
        if found:
            settings = re.findall(r"`(\w+)`(?: ([^,|]+))?", found.group(2))
            listed[found.group(1)] = [(name, default.strip()) for name, default in settings]
    own = [name for name in stage_names() if STAGES[name].__module__.startswith("duelenv.")]  # those of this project
    assert sorted(listed) == own
    for name in own:
        parameters = inspect.signature(STAGES[name]).parameters.values()
        expected = [(one.name, "" if one.default is one.empty else repr(one.default)) for one in parameters]
        assert listed[name] == expected, name


def test_every_agent_has_a_page():
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    built_in = [name for name in agents.names() if base.AGENTS[name].__module__.startswith("duelenv.agents")]
    assert [name for name in built_in if f"`{name}`" not in text] == []
    assert {name for page in PAGES for name, _ in rows(page)} <= set(agents.names())


def test_the_page_of_oracles_has_all_of_them_and_leads_to_their_pages():
    text = (DOCS / "oracles.md").read_text(encoding="utf-8")
    # Of a process of its own: other tests register oracles here.
    code = "from duelenv import oracles; print(*oracles.names())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    built_in = told.split()
    assert len(built_in) > 15 and [name for name in built_in if f"`{name}`" not in text] == []
    for page in ("judges", "reward_servers", "people", "remote", "offline", "crowds", "threats", "labels", "runs"):
        assert f"({page}.md)" in text, page
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert list(DOCS.parent.joinpath("tests").rglob(name)), name


@pytest.mark.parametrize("page", [page for page in PAGES if page != "labels.md"])  # which has none
def test_commands_name_what_there_is(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("duelenv run ")]
    assert commands
    for _, _, suite, *overrides in commands:
        assert suite in suites()
        load(suite, overrides)
