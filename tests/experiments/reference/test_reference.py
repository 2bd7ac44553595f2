"""The pages that are made from the code say what the code says; `make reference` writes them."""

import argparse
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from duelenv.agents.losses import DPO, ConservativeDPO
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.reference import agents_page, command_page, config_page, docstrings, markdown, parts_page
from duelenv.experiments.reference.pages import PAGES
from duelenv.oracles.base import ORACLES
from duelenv.vector import DuelVectorEnv
from duelenv.worlds.pool_duel import PoolDuelVectorEnv

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def rows(page):
    """First cells of a page's tables, without their code marks."""
    return re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pages, made in a process of its own: other tests register parts."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, "-m", "duelenv.experiments.reference", str(folder)], check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_pages_of_the_repository_are_those_of_the_code(made, name):
    written, now = ((folder / name).read_text(encoding="utf-8") for folder in (FOLDER, made))
    assert written == now, f"docs/reference/{name} is not what the code says: run 'make reference'"


def test_the_page_of_configs_has_every_key_and_its_default():
    page = config_page.config_page()
    fields = {field.name: field for field in dataclasses.fields(RunConfig)}
    assert set(fields) <= set(rows(page))
    assert re.search(r"^\| `evaluate_every` \| whole number \| `5` \|", page, re.MULTILINE)
    assert re.search(r"^\| `jobs`\* \|", page, re.MULTILINE)  # may change between two starts
    assert re.search(r"^\| `seeds` \|", page, re.MULTILINE)  # may not


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer"}, "whole number"),
        ({"type": ["object", "null"]}, "mapping / null"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}, "text / list of text"),
        ({"enum": ["test", None]}, "test / null"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}, "list"),
        ({}, "anything"),
    ],
)
def test_a_type_in_words(schema, words):
    assert config_page.type_of(schema) == words


def test_the_page_of_the_command_line_has_every_argument_of_every_command():
    page = command_page.command_page()
    parsers = command_page.parsers()
    assert len(parsers) >= 17
    for name, parser in parsers.items():
        section = page.partition(f"## duelenv {name}\n")[2].partition("\n## ")[0]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                assert (action.option_strings or [action.metavar])[0] in section, (name, action.dest)
    assert "-h" not in rows(page)


def test_the_usage_of_a_command_does_not_depend_on_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    narrow = command_page.command_page()
    monkeypatch.setenv("COLUMNS", "300")
    assert command_page.command_page() == narrow


def test_an_agents_settings_are_those_that_it_reads_with_its_own_defaults():
    page = (FOLDER / "agents.md").read_text(encoding="utf-8")
    (frugal,) = re.findall(r"^\| `frugal` \| (.*)$", page, re.MULTILINE)
    assert frugal.startswith("M F A |")
    for setting, default in {"replay": "14", "prior_precision": "0.3", "target": "'mean'"}.items():
        assert f"`{setting}` {default}" in frugal
    (rucb,) = re.findall(r"^\| `rucb` \| (.*)$", page, re.MULTILINE)
    assert rucb.startswith("M |") and rucb.endswith("| `alpha` 0.51, `informed` True |")
    assert set(rows(page)) >= set(agents_page.common_names(agents_page.AGENTS))


def test_what_a_study_or_a_user_registers_is_on_no_page():
    """Whichever tests ran before in the same process, the pages are the same."""
    places = {"ours": "duelenv.agents.parts", "of_a_study": "duelenv.experiments.some_study", "a_users": "my_parts"}
    parts = {name: type(name, (), {"__module__": place}) for name, place in places.items()}
    assert parts_page.common_names(parts) == ["ours"]
    assert parts_page.own_names(parts) == ["of_a_study", "ours"]  # trackers and places to play at are there


def test_what_a_docstring_says_of_a_setting():
    assert docstrings.meanings(ConservativeDPO)["noise"] == "Share of labels thought to be flipped, in [0, 1/2)."
    assert docstrings.meanings(ConservativeDPO)["beta"] == docstrings.meanings(DPO)["beta"]  # of the class below it
    assert docstrings.summary(DPO).startswith("-log sigma(beta h)")

    @dataclasses.dataclass
    class Bare:
        width: int = 3

    assert docstrings.summary(Bare) == ""
    assert docstrings.settings_of(Bare) == [("width", "3", "")]


def test_arguments_are_read_from_a_world_as_from_a_function():
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    said = docstrings.meanings(FeatureDuelVectorEnv)
    assert said["dim"] == "d, features of a candidate, at least 1."
    assert said["utility"].endswith("See `duelenv.oracles.utilities`.")  # over several lines
    assert "v0" not in said


def test_a_meaning_that_stands_elsewhere_is_fetched():
    said = {name: meaning for name, _, meaning in docstrings.settings_of(ORACLES["reward_model"])}
    assert "constructor" not in " ".join(said.values())
    assert said["batch_size"]
    (pool,) = [meaning for name, _, meaning in docstrings.settings_of(PoolDuelVectorEnv) if name == "selective"]
    assert pool == docstrings.meanings(DuelVectorEnv)["selective"]  # of a class that it extends
    crowd = {name: meaning for name, _, meaning in docstrings.settings_of(ORACLES["crowd"])}
    assert len(crowd["votes"]) > len("See `Crowd`.")


def test_a_cell_of_a_table_holds_any_text():
    assert markdown.cell("a | b\n  <c>") == "a \\| b &lt;c>"
    assert markdown.table(["a", "b"], []) == ""
    assert markdown.table(["a", "b"], [["1", "2"]]).splitlines()[1:] == ["| :-- | :-- |", "| 1 | 2 |"]


def test_every_part_of_the_project_says_what_it_is():
    page = (FOLDER / "parts.md").read_text(encoding="utf-8")
    silent = re.findall(r"^\| `(\w+)` \|  \|$", page, re.MULTILINE)
    assert silent == []
    assert inspect.signature(ORACLES["length"]).parameters.keys() <= set(rows(page))
