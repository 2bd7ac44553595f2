"""Every `duelenv` command in the documentation can be read by the real parser."""

import pytest
import yaml
from pages import PAGES, blocks, commands, name_of

from duelenv.experiments.commands.cli import read_arguments
from duelenv.experiments.config.run_config import RunConfig

WITH_COMMANDS = [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_every_command_can_be_read(page):
    for line, words in commands(page):
        # Brackets stand for what may be left out, as in a usage.
        given = [word.strip("[]") for word in words[1:] if word.strip("[]") not in ("", "...")]
        try:
            read_arguments(given)
        except SystemExit as error:
            if error.code != 0:  # as of --help
                pytest.fail(f"{name_of(page)}:{line}: {' '.join(words)}")


def test_commands_are_found_wherever_they_stand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```\nduelenv list > names.txt  # names\n"
        "KEY=$(a b) X=1 duelenv run demo 'agents={passive: {}}' \\\n    seeds=4\n```\n"
        "```text\nduelenv of a usage\n```\n```console\n$ duelenv bench\nprinted\n```\n"
    )
    assert commands(page) == [
        (2, ["duelenv", "list"]),
        (3, ["duelenv", "run", "demo", "agents={passive: {}}", "seeds=4"]),
        (10, ["duelenv", "bench"]),
    ]


NEW_CONFIGS = ("configs.md", "align_your_model.md", "regret_study.md", "agents.md", "asking.md", "teaching.md")


@pytest.mark.parametrize("page", NEW_CONFIGS)
def test_configs_on_the_page_hold_nothing_unknown(page):
    (path,) = [one for one in PAGES if name_of(one) == f"docs/{page}"]
    found = [yaml.safe_load(block.text) for block in blocks(path) if block.language == "yaml"]
    assert found
    for raw in found:
        least = {"name": "page", "env": "FeatureDuel", "agents": {"passive": {}}}
        RunConfig.from_dict({"modules": "mine.py", **least, **raw, **_with_baseline(raw)})


def _with_baseline(raw):
    """A piece of a config may name no agent that others could be compared with."""
    agents = raw.get("agents", ["passive"])
    return {} if "passive" in agents or "variants" in raw else {"baseline": next(iter(agents))}
