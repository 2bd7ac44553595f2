"""Tables, figures and the page: what they say, and that the page needs nothing else."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from duelenv import UserError
from duelenv.experiments import plots
from duelenv.experiments.cell import cells
from duelenv.experiments.config import RunConfig
from duelenv.experiments.drawing import spread
from duelenv.experiments.journal import LabelLog, labels_table
from duelenv.experiments.report import write_report
from duelenv.experiments.results import Results, lower_is_better, make_table

NASTY = '<script>alert(1)</script> & "quoted" <b>'
STEPS = np.array([0, 5, 10])
# Final win rate of each agent by seed.
FINAL = {
    "passive": [0.70, 0.72, 0.71, 0.69],
    "better": [0.80, 0.83, 0.81, 0.78],
    "alike": [0.71, 0.70, 0.73, 0.68],
}


def policy_run(folder, seeds=4, agents=FINAL, text=NASTY):
    """A run directory as a policy run leaves it, with made-up numbers."""
    config = RunConfig.from_dict(
        {
            "name": "made-up",
            "env": {"id": "AlignmentDuel", "num_envs": 2, "horizon": 10},
            "policy": "toy",
            "prompts": "toy",
            "oracle": "length",
            "agents": {agent: {"name": "passive" if agent == "passive" else "thompson"} for agent in agents},
            "seeds": seeds,
        }
    )
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    tables = []
    for cell in cells(config):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True)
        seed = cell.seeds[0]
        rates = 0.5 + (agents[cell.label][seed] - 0.5) * STEPS / 10
        table = pa.table(
            {
                "agent": [cell.label] * 3,
                "seed": [seed] * 3,
                "step": STEPS,
                "queries": 2 * STEPS,
                "gradient_steps": STEPS,
                "seconds": STEPS * 0.1,
                "win_rate": rates,
                "kl": (rates - 0.5) * 10,
                "regret_average": [None, 4.0, 7.0 + seed],
            }
        )
        pq.write_table(table, place / "result.parquet")
        tables.append(table)
        (place / "examples.json").write_text(json.dumps([{"prompt": text, "before": text, "after": text}]))
        log = LabelLog(place / "labels.jsonl")
        responses = np.array([[text, "other"], ["x", "y"]], dtype=object)
        for step in range(1, 11):
            shown = {"prompt": np.array([text, "q"], dtype=object), "responses": responses}
            log.write(step, shown, np.array([[0, 1], [1, 0]]), np.array([1.0, 0.5]))
        log.close()
        pq.write_table(labels_table(place / "labels.jsonl", cell.label, cell.seeds), place / "labels.parquet")
    pq.write_table(pa.concat_tables(tables), folder / "results.parquet")
    return folder


def numeric_run(folder, primary=(3.0, 2.0, 1.0)):
    """A run directory of a world with replicates, with references."""
    config = RunConfig.from_dict(
        {"name": "numbers", "env": {"id": "PoolDuel"}, "data": "x.parquet", "agents": ["passive", "real"], "seeds": 3}
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    rows = []
    for cell in cells(config):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True)
        (place / "result.parquet").touch()
        (place / "references.json").write_text(json.dumps({"longest_response": [1.0, 2.0, 3.0]}))
        for seed in cell.seeds:
            for step, regret in enumerate(primary):
                shift = 0.1 * seed if cell.label == "real" else 0.0
                rows.append(
                    {"agent": cell.label, "seed": seed, "step": step, "queries": step, "gradient_steps": 0,
                     "seconds": 0.1, "simple_regret": regret - shift, "regret_utility": 2.0 * step}
                )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "results.parquet")
    return folder


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


def test_the_table_tells_a_difference_from_noise(tmp_path):
    table = make_table(Results(policy_run(tmp_path)))
    lines = {line.agent: line for line in table.lines}
    assert lines["passive"].difference is None
    assert lines["better"].difference.mean == pytest.approx(0.1)
    assert lines["better"].verdict == ""
    assert lines["alike"].verdict == "no difference shown"
    assert lines["better"].labels.mean == 20
    text = table.text()
    assert "+0.100 [+0.087, +0.113]" in text
    assert text.count("no difference shown") == 1
    assert "4 seeds" in table.caption
    assert len({line.index("0.") for line in text.splitlines()[2:]}) == 1


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


def test_one_seed_shows_nothing(tmp_path):
    table = make_table(Results(policy_run(tmp_path, seeds=1)))
    assert "(one seed)" in table.text()
    assert table.caption.startswith("1 seed;")


def test_references_stand_beside_the_agents(tmp_path):
    results = Results(numeric_run(tmp_path))
    assert results.primary == "simple_regret"
    table = make_table(results)
    assert [line.agent for line in table.lines] == ["passive", "real", "(longest response)"]
    assert table.lines[2].primary.mean == 2
    assert "gradient steps" not in table.header()
    source = write_report(tmp_path).read_text()
    assert "better" in source
    assert "longest response" in source


def test_lower_is_better_for_regret():
    assert lower_is_better("simple_regret")
    assert lower_is_better("regret_average")
    assert not lower_is_better("win_rate")


def test_nothing_is_regretted_before_the_first_duel(tmp_path):
    _, values = Results(policy_run(tmp_path)).curve("passive", "regret_average")
    assert (values[:, 0] == 0).all()
    assert values[:, 2].tolist() == [7, 8, 9, 10]


def test_an_unknown_metric_is_one_sentence(tmp_path):
    directory = policy_run(tmp_path)
    config = yaml.safe_load((directory / "config.yaml").read_text()) | {"metric": "win_rte"}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="did you mean 'win_rate'"):
        _ = Results(directory).primary


def test_not_a_run_directory(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        Results(tmp_path)


def test_figures_are_files_and_the_same_every_time(tmp_path):
    directory = policy_run(tmp_path)
    paths = plots.save_figures(Results(directory))
    names = {path.name for path in paths}
    assert names == {
        f"{name}.{kind}" for name in ("win_rate", "win_rate_against_kl", "regret_average") for kind in ("png", "svg")
    }
    before = {path: path.read_bytes() for path in paths}
    assert all(content[:4] == b"\x89PNG" for path, content in before.items() if path.suffix == ".png")
    plots.save_figures(Results(directory))
    assert {path: path.read_bytes() for path in paths} == before


def test_the_baseline_is_in_every_figure_and_grey(tmp_path):
    results = Results(policy_run(tmp_path))
    for figure in plots.draw(results).values():
        axes = figure.axes[0]
        names = {text.get_text(): text.get_color() for text in axes.texts}
        assert set(names) == set(FINAL)
        assert names["passive"] == plots.LIGHT.baseline
        assert len(set(names.values())) == len(names)


def test_names_at_line_ends_do_not_touch():
    heights = spread([10.0, 11.0, 11.5, 80.0], [15.0] * 3)
    assert np.diff(heights).min() >= 15 - 1e-9
    assert np.mean(heights[:3]) == pytest.approx(np.mean([10.0, 11.0, 11.5]))
    assert heights[3] == 80
    assert spread([], []) == []
    assert spread([0.0, 1.0, 99.0], [10.0, 20.0], within=(5.0, 90.0)) == pytest.approx([5.0, 15.0, 90.0])


def test_the_reproduction_command_names_the_config(tmp_path):
    directory = policy_run(tmp_path / "a run")
    source = write_report(directory).read_text()
    assert re.search(r"duelenv run &#39;a run/config.yaml&#39; --output", source)
