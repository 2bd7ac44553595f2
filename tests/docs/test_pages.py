"""The documentation: links lead somewhere, every page can be found, and what machines read is what is there."""

import re

import pytest
from pages import DOCS, PAGES, ROOT, anchors, name_of, stage_module

from duelenv import DuelVectorEnv
from duelenv.agents import sb3
from duelenv.agents.asking import ASK, PROMPTS
from duelenv.agents.base import Agent
from duelenv.agents.parts import BELIEFS
from duelenv.agents.teaching import TEACHING
from duelenv.experiments.reference.parts_page import common_names

STAGE = stage_module()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in STAGE.links(page.read_text(encoding="utf-8")):
        if target.startswith("https://") or re.match(r"http://(127\.0\.0\.1|localhost)", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_an_anchor_is_spelt_as_on_the_site(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One: `two`, [three](x.md)\n\n## A\n\n```\n# no heading\n```\n\n## A\n\n### duelenv/It-v0 (`env.id`)\n"
    )
    assert anchors(page) == {"one-two-three", "a", "a_1", "duelenvit-v0-envid"}


def test_every_page_is_in_the_table_of_contents_and_once():
    listed = [page for _, _, page in STAGE.pages(STAGE.settings()["nav"])]
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_what_machines_read_is_the_table_of_contents():
    """`make reference` writes it."""
    assert (ROOT / "llms.txt").read_text(encoding="utf-8") == STAGE.llms_text()
    assert "AGENTS.md" in STAGE.llms_text()


@pytest.mark.parametrize(
    ("page", "parts"),
    [("asking.md", ASK), ("asking.md", PROMPTS), ("beliefs.md", BELIEFS), ("teaching.md", TEACHING)],
)
def test_a_page_names_every_part_of_its_kind(page, parts):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in common_names(parts) if f"`{name}`" not in text] == []


def test_what_others_call_otherwise_is_there_by_the_name_that_is_given():
    """The right column of the pages for those who come from elsewhere."""
    known = set(
        re.findall(r"`([a-z0-9_]+)`", "".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md")))
    )
    known |= {*dir(Agent), *dir(DuelVectorEnv), *dir(sb3)}
    missing = {
        f"{page.name}: {word}"
        for page in (DOCS / "from").glob("*.md")
        for cell in re.findall(r"^\|[^|\n]+\|([^|\n]+)\|$", page.read_text("utf-8"), re.MULTILINE)
        for word in re.findall(r"`([a-z]+_[a-z0-9_]+|[a-z]+\d)`", cell)
        if word not in known
    }
    assert missing == set()


def test_a_link_to_a_source_file_leads_to_a_page_with_it(tmp_path):
    STAGE.stage(tmp_path)
    page = (tmp_path / "karmed.md").read_text(encoding="utf-8")
    assert "](source/agents/karmed/rucb.py.md)" in page
    assert "](source/agents/karmed/index.md)" in page
    assert "](contextual.md)" in page
    assert "RUCB" in (tmp_path / "source/agents/karmed/rucb.py.md").read_text(encoding="utf-8")
    listing = (tmp_path / "source/agents/karmed/index.md").read_text(encoding="utf-8")
    assert "- [rucb.py](rucb.py.md): Relative upper confidence bound" in listing
    assert (tmp_path / "figures/karmed.png").is_file()
    assert "](../source/agents/beliefs/base.py.md)" in (tmp_path / "write/belief.md").read_text(encoding="utf-8")


def test_code_on_a_page_is_no_link():
    text = "See [a](x.md).\n\n```python\nfirst[0](y)\n```\n\nand `call[1](z)` here"
    assert STAGE.links(text) == ["x.md"]
