"""The page: what it says, that it needs nothing else, and the tables written beside it."""

import base64
import csv
import hashlib
import io
import re
import shlex
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from made_up_runs import FINAL, NASTY, change_config, numeric_run, policy_run, regret_run

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run


class Page(HTMLParser):
    """Collects what a browser would fetch, run or lead to."""

    def __init__(self):
        super().__init__()
        self.tags, self.fetched, self.links, self.text, self.policy = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action"):
                self.fetched.append(value)
            if name == "href":
                self.links.append(value)
            assert not name.startswith("on")

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    source = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(source)
    return source, page


def test_the_page_is_self_contained_and_escapes_text(tmp_path):
    directory = policy_run(tmp_path)
    source, page = read(write_report(directory))
    assert page.tags.count("script") == 1
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


def test_links_lead_to_places_on_the_page_and_to_files_beside_it(tmp_path):
    directory = policy_run(tmp_path)
    source, page = read(write_report(directory))
    places = [link for link in page.links if link.startswith("#")]
    assert places
    assert all(f'id="{place[1:]}"' in source for place in places)
    files = [unquote(link) for link in page.links if not link.startswith("#")]
    assert {"results.parquet", "labels.parquet", "table.csv", "costs.csv", "config.yaml"} <= set(files)
    assert "figures/differences.png" in files
    assert all((directory / name).is_file() for name in files)


def test_the_policy_lets_the_script_of_the_page_run_and_no_other(tmp_path):
    source, page = read(write_report(policy_run(tmp_path)))
    script = source.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "unsafe" not in page.policy.replace("style-src 'unsafe-inline'", "")


def test_the_description_of_a_config_is_text(tmp_path):
    directory = change_config(policy_run(tmp_path), description=f"Is it so?\n\n{NASTY}")
    _, page = read(write_report(directory))
    assert any(text == "Is it so?" for text in page.text)
    assert any(text == NASTY for text in page.text)


def test_worlds_are_groups_and_not_lines_of_one_table(tmp_path):
    variants = {"x": {"feedback": "bernoulli"}, "y": {"feedback": "argmax"}}
    agents = {"random": 1.0, "a": 0.5}
    source, _ = read(write_report(regret_run(tmp_path, agents, variants=variants, baseline="random-x")))
    results = source.partition('<section id="results">')[2].partition("</section>")[0]
    assert re.findall(r"<summary>(.*?)</summary>", results) == ["feedback = bernoulli", "feedback = argmax"]
    assert [part.count("<tr") for part in results.split("<table")[1:]] == [3, 3, 3]  # at a glance, and each world
    assert "random-x" not in results
    assert 'class="sortable many"' in source  # the table of regret has as many columns
    assert "<summary>The final figures of each seed" in source


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


@pytest.mark.slow
def test_the_reproduction_command_plays_the_run_again_from_the_folder_of_the_page(tmp_path, monkeypatch):
    settings = {"env": {"id": "FeatureDuel", "horizon": 4}, "agents": ["passive"], "seeds": 2, "jobs": 1}
    run(RunConfig.from_dict({"name": "first", **settings}), tmp_path / "a run")
    source, _ = read(write_report(tmp_path / "a run"))
    given = re.search(r"How to reproduce</h3>\n<pre><code>duelenv (.*)</code>", source).group(1)
    monkeypatch.chdir(tmp_path / "a run")
    assert main(shlex.split(given.replace("NEW_DIRECTORY", "again"))) == 0
    first, again = (Results(tmp_path / name) for name in ("a run", "again"))
    assert again.final("passive", "simple_regret") == first.final("passive", "simple_regret")
    assert main([*shlex.split(given)[:2], "--output", "."]) == 0
