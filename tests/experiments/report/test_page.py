"""The page: what it says, that it needs nothing else, and the tables written beside it."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from made_up_runs import FINAL, NASTY, numeric_run, policy_run

from duelenv.experiments.report.page import write_report


class Page(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.tags, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "data", "poster", "action"):
                self.fetched.append(value)
            assert not name.startswith("on")

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_self_contained_and_escapes_text(tmp_path):
    target = write_report(policy_run(tmp_path))
    source = target.read_text(encoding="utf-8")
    page = Page()
    page.feed(source)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    assert page.fetched
    assert all(value.startswith("data:image/svg+xml;base64,") for value in page.fetched)
    assert "url(" not in source
    assert "@import" not in source
    # In the duels and in the examples of each of three agents, as text and not as markup.
    assert sum(NASTY in text for text in page.text) >= 3 * 3
    for word in ("made-up", "AlignmentDuel", "no difference shown", "How to reproduce", "duelenv run"):
        assert word in source


def test_the_page_names_references_and_the_direction_of_a_difference(tmp_path):
    source = write_report(numeric_run(tmp_path)).read_text()
    assert "better" in source
    assert "longest response" in source


def test_csv_and_markdown_carry_the_same_lines(tmp_path):
    directory = policy_run(tmp_path)
    write_report(directory)
    rows = list(csv.DictReader(io.StringIO((directory / "table.csv").read_text())))
    assert [row["agent"] for row in rows] == list(FINAL)
    assert float(rows[1]["difference_mean"]) == pytest.approx(0.1)
    assert rows[0]["difference_mean"] == ""
    markdown = (directory / "table.md").read_text().splitlines()
    assert len(markdown) == 2 + len(FINAL)
    assert len({line.count("|") for line in markdown}) == 1


def test_the_reproduction_command_names_the_config(tmp_path):
    directory = policy_run(tmp_path / "a run")
    source = write_report(directory).read_text()
    assert re.search(r"duelenv run &#39;a run/config.yaml&#39; --output", source)
