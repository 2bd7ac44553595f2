"""The table of cumulative regret, worlds that are compared apart, and the bounds that are laid over them."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up_runs import MATRIX, regret_run

from duelenv import bounds
from duelenv.experiments.config.loading import load
from duelenv.experiments.figures import plots
from duelenv.experiments.figures.styles import LIGHT, looks_of
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import bounds_of, regret_table, tables
from duelenv.oracles.matrices import bradley_terry


def test_the_table_is_sorted_and_says_how_regret_grows(tmp_path):
    results = Results(regret_run(tmp_path, {"random": 1.0, "b": 0.5, "a": 0.25}))
    (table,) = tables(results)
    assert [line.agent for line in table.lines] == ["a", "b", "random"]
    assert [line.slope.slope for line in table.lines] == pytest.approx([0.25, 0.5, 1.0])
    best, _, baseline = table.lines
    assert baseline.difference is None
    assert baseline.verdict == "baseline"
    factors = np.linspace(0.9, 1.1, 6)
    finals = 3 * factors * 1000**0.25
    assert best.median == pytest.approx(np.median(finals))
    assert best.tail == pytest.approx(np.quantile(finals, 0.95))
    assert best.difference.mean == pytest.approx(np.mean(finals - factors * 1000))
    assert best.microseconds == pytest.approx(1e6 * 0.6 / (6 * 1000))  # one time for all replicates together
    assert [line.leads for line in table.lines] == [True, False, False]
    text = table.text().splitlines()
    assert text[2].startswith("a *")
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert float(rows[1]["slope"]) == pytest.approx(0.5)
    assert rows[2]["difference_mean"] == ""
    assert table.markdown().splitlines()[2].startswith("| **a** |")


def test_whoever_is_not_shown_to_be_worse_than_the_best_is_marked(tmp_path):
    directory = regret_run(tmp_path, {"random": 1.0, "a": 0.5, "b": 0.5})
    rows = pq.read_table(directory / "results.parquet").to_pylist()
    for row in rows:
        if row["agent"] == "b":  # better than a in one replicate by much, worse in the others by little
            row["regret_average"] = 2.0 * (1 + 0.01 * row["seed"]) * row["step"] ** 0.5 - 0.1 * (row["seed"] == 0)
        if row["agent"] == "a":
            row["regret_average"] = 2.0 * (1 + 0.01 * row["seed"]) * row["step"] ** 0.5
    pq.write_table(pa.Table.from_pylist(rows), directory / "results.parquet")
    table = regret_table(Results(directory))
    assert [(line.agent, line.leads) for line in table.lines] == [("b", True), ("a", True), ("random", False)]


def test_a_zero_slope_has_no_sign(tmp_path):
    results = Results(regret_run(tmp_path, {"random": 1.0, "done": 0.0}))
    assert "-0.00" not in tables(results)[0].text()


def test_agents_are_compared_in_their_own_world(tmp_path):
    variants = {"k1": {"selective": False}, "k2": {"selective": True}}
    directory = regret_run(tmp_path, {"random": 1.0, "a": 0.5}, variants=variants, baseline="random-k1")
    results = Results(directory)
    one, two = group_agents(results)
    assert (one.title, one.names, one.baseline) == ("selective = False", ("random", "a"), "random-k1")
    assert (two.agents, two.baseline) == (("random-k2", "a-k2"), "random-k2")
    table = regret_table(results)
    assert [line.agent for line in table.lines] == ["a-k1", "random-k1", "a-k2", "random-k2"]
    assert [line.difference is None for line in table.lines] == [False, True, False, True]
    factors = np.linspace(0.9, 1.1, 6)
    assert table.lines[2].difference.mean == pytest.approx(np.mean(factors * (4 * 1000**0.5 - 3 * 1000)))
    for figure in plots.draw(results).values():
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["selective = False", "selective = True"]
        assert all(text.get_text().split()[0] in ("random", "a", "c", "√(KT),") for text in figure.axes[1].texts)
    looks = looks_of(results, LIGHT)
    assert looks["a-k1"] == looks["a-k2"]
    assert looks["random-k2"].colour == LIGHT.baseline


def test_agents_with_settings_of_their_own_stay_in_one_comparison(tmp_path):
    agents = {"random": {"name": "random"}, "a": {"name": "rucb", "env": {"selective": True}}}
    results = Results(regret_run(tmp_path, {"random": 1.0, "a": 0.5}, agents=agents))
    (group,) = group_agents(results)
    assert group.names == ("random", "a")


def named(results):
    (group, *_) = group_agents(results)
    return {bound.name: bound.curve(np.array([1.0, 100.0])) for bound in bounds_of(results, group)}


def test_bounds_of_a_matrix(tmp_path):
    constant = bounds.komiyama_constant(bradley_terry(MATRIX["utilities"]))
    found = named(Results(regret_run(tmp_path / "average", {"random": 1.0})))
    assert found[f"c ln T, c = {constant:.3g}"] == pytest.approx([0.0, constant * np.log(100)])
    assert found["√(KT), shape"] == pytest.approx([2.0, 20.0])
    found = named(Results(regret_run(tmp_path / "sum", {"random": 1.0}, metric="regret_sum")))
    assert found[f"c ln T, c = {2 * constant:.3g}"][1] == pytest.approx(2 * constant * np.log(100))
    assert named(Results(regret_run(tmp_path / "weak", {"random": 1.0}, metric="regret_weak"))) == {}
    cyclic = {"matrix": {"name": "cyclic", "num_arms": 5}}
    assert list(named(Results(regret_run(tmp_path / "cyclic", {"random": 1.0}, env=cyclic)))) == ["√(KT), shape"]
    gone = {"matrix": "gone.npy"}
    assert named(Results(regret_run(tmp_path / "gone", {"random": 1.0}, env=gone))) == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"dim": 4}, {"√(dT), shape": [2.0, 20.0], "d√T, shape": [4.0, 40.0]}),
        ({}, {"√(dT), shape": [10**0.5, 1000**0.5], "d√T, shape": [10.0, 100.0]}),  # d = 10 by default
        ({"utility": "mlp"}, {}),
        ({"stages": [{"name": "flip", "probability": 0.2}]}, {}),
    ],
)
def test_bounds_of_features(tmp_path, settings, expected):
    directory = regret_run(tmp_path, {"random": 1.0}, metric="regret_utility")
    config = yaml.safe_load((directory / "config.yaml").read_text())
    config["env"] = {"id": "FeatureDuel", "horizon": 1000, **settings}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    found = named(Results(directory))
    assert set(found) == set(expected)
    for name, heights in expected.items():
        assert found[name] == pytest.approx(heights)


@pytest.mark.parametrize(("suite", "agents"), [("karmed", 17), ("contextual", 63)])
def test_the_suites_can_be_run(suite, agents, tmp_path):
    config = load(suite)
    assert len(config.agents) == agents
    small = ["seeds=2", "env.horizon=4", "evaluate_every=2", "jobs=1"]
    if suite == "contextual":
        small += ["variants={d2: {dim: 2}}", "baseline=passive-d2", "env.num_candidates=3"]
    run(load(suite, small), tmp_path / "run", progress=False)
    page = write_report(tmp_path / "run").read_text()
    assert "difference to" in page
    table = regret_table(Results(tmp_path / "run"))
    assert len(table.lines) == (agents if suite == "karmed" else agents // 3)


def test_differences_of_the_table_are_one_family(tmp_path):
    regret_run(tmp_path, {"random": 1.0, "b": 0.5, "a": 0.25})
    table = regret_table(Results(tmp_path))
    family = [line.difference for line in table.lines if line.difference is not None]
    assert len(family) > 1
    smallest = min(family, key=lambda one: one.p_value)
    assert smallest.adjusted == pytest.approx(min(1.0, len(family) * smallest.p_value))
    assert f"corrected for {len(family)} comparisons (Holm)" in table.caption
