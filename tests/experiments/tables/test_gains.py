"""Figures at given numbers of labels: judged there whatever `evaluate_every` says, compared by seed."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up_runs import numeric_run

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.runner import run
from duelenv.experiments.tables.gains import gains_table
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import tables
from duelenv.ground.errors import UserError


def config(**changes):
    raw = {
        "name": "gains",
        "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 10, "batch": 2},
        "agents": ["passive", "thompson"],
        "seeds": 3,
        "evaluate_every": 5,
        "jobs": 1,
    }
    return RunConfig.from_dict(raw | changes)


def test_agents_are_judged_at_these_labels_too_and_nothing_else_changes(tmp_path):
    run(config(report_at=[6, 14]), tmp_path / "run")
    run(config(evaluate_every=1), tmp_path / "every")
    results, every = Results(tmp_path / "run"), Results(tmp_path / "every")
    for agent in results.agents:
        steps, values = results.curve(agent, "simple_regret")
        assert steps.tolist() == [0, 3, 5, 7, 10]
        np.testing.assert_array_equal(values, every.curve(agent, "simple_regret")[1][:, [0, 3, 5, 7, 10]])
        at = results.at_labels(agent, "simple_regret", 6)
        assert list(at.values()) == values[:, 1].tolist()
        assert results.at_labels(agent, "queries", 14) == dict.fromkeys(range(3), 14)
    (group,) = group_agents(results)
    table = gains_table(results, group)
    assert table.header()[1::2] == ["at 6 labels", "at 14 labels", "at 20 labels"]
    thompson = table.lines[1]
    gap = [results.at_labels(name, "simple_regret", 14) for name in ("thompson", "passive")]
    assert thompson.differences[1].mean == pytest.approx(np.mean([gap[0][seed] - gap[1][seed] for seed in range(3)]))
    assert thompson.values[2].mean == pytest.approx(results.curve("thompson", "simple_regret")[1][:, -1].mean())
    # One family: three differences of thompson, of which Holm multiplies the smallest p-value by three.
    p_values = [one.p_value for one in thompson.differences]
    assert min(one.adjusted for one in thompson.differences) == pytest.approx(min(1.0, 3 * min(p_values)))
    assert "corrected for 3 comparisons (Holm)" in table.caption and "would mostly not be seen" in table.caption
    assert [made.name for made in tables(results)] == ["table", "gains", "regret"]
    write_report(tmp_path / "run")
    assert "at 14 labels" in (tmp_path / "run" / "gains.md").read_text()
    assert len((tmp_path / "run" / "gains.csv").read_text().splitlines()) == 1 + 2 * 3


def test_where_rows_need_not_ask_the_first_evaluation_with_as_many_labels_counts(tmp_path):
    selective = {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 12, "batch": 3, "selective": True}
    agents = {"passive": {}, "some": {"name": "thompson", "ask_share": 0.5}}
    run(config(env=selective, agents=agents, report_at=7, evaluate_every=12), tmp_path / "run")
    results = Results(tmp_path / "run")
    assert results.at_labels("passive", "queries", 7) == dict.fromkeys(range(3), 9)
    had = results.curve("some", "queries")[1]
    for seed, count in results.at_labels("some", "queries", 7).items():
        assert 7 <= count <= 9 and count == had[seed][had[seed] >= 7].min()
    assert len(had[0]) > 2


def test_where_a_round_asks_for_several_the_title_says_how_many_there_were(tmp_path):
    run(config(report_at=[5, 6]), tmp_path / "run")
    results = Results(tmp_path / "run")
    assert results.curve("passive", "step")[0].tolist() == [0, 3, 5, 10]
    assert gains_table(results, group_agents(results)[0]).header()[1::2] == ["at 6 labels", "at 20 labels"]


def test_the_end_is_not_shown_twice_and_a_reference_is_the_same_everywhere(tmp_path):
    directory = numeric_run(tmp_path)
    written = yaml.safe_load((directory / "config.yaml").read_text()) | {"report_at": [1, 2]}
    (directory / "config.yaml").write_text(yaml.safe_dump(written))
    results = Results(directory)
    table = gains_table(results, group_agents(results)[0])
    assert table.labels == (1, 2)
    passive, real, rule = table.lines
    assert [value.mean for value in passive.values] == [2, 1] and passive.differences == (None, None)
    assert [round(gap.mean, 9) for gap in real.differences] == [-0.1, -0.1]  # seeds lose 0, 0.1 and 0.2
    assert rule.agent == "(longest response)" and [gap.mean for gap in rule.differences] == [0, 1]
    assert table.text_columns == (0, 2, 4) and len(table.cells()[0]) == len(table.header()) == 5


def test_labels_that_a_seed_never_had_are_no_value(tmp_path):
    directory = numeric_run(tmp_path)
    table = pq.read_table(directory / "results.parquet").to_pylist()
    kept = [row for row in table if not (row["agent"] == "real" and row["step"] == 2 and row["seed"] == 1)]
    pq.write_table(pa.Table.from_pylist(kept), directory / "results.parquet")
    assert sorted(Results(directory).at_labels("real", "simple_regret", 2)) == [0, 2]


SELECTIVE = {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 10, "batch": 4, "selective": True}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"report_at": [21]}, "'report_at' holds 21, but an agent gets 20 labels at most"),
        ({"report_at": [8], "budget": 7}, "gets 7 labels at most"),
        (
            {"env": SELECTIVE, "agents": {"passive": {"asked": 1}, "thompson": {"asked": 2}}, "report_at": [10, 21]},
            "holds 21, but an agent gets 20 labels at most, which agent 'thompson' does: .* the agent's 'asked'",
        ),
        (
            {"env": SELECTIVE, "agents": {"all": {"name": "passive"}}, "report_at": 41, "baseline": "all"},
            "holds 41, but an agent gets 40 labels at most: leave",
        ),
        (
            {
                "env": SELECTIVE,
                "agents": {"few": {"name": "passive", "asked": 2}},
                "report_at": 9,
                "budget": 8,
                "baseline": "few",
            },
            "gets 8 labels at most, which agent 'passive' .label 'few'. does",
        ),
    ],
)
def test_labels_that_no_agent_ever_has_are_refused_before_anything_is_written(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        run(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_that_one_agent_may_have_are_reported_and_of_rows_that_ask_by_chance_all_may(tmp_path):
    agents = {"passive": {"ask_share": 0.25}, "thompson": {"asked": 1}}
    run(config(env=SELECTIVE, agents=agents, report_at=[10, 14, 40]), tmp_path / "run")
    results = Results(tmp_path / "run")
    assert results.at_labels("thompson", "simple_regret", 14) == {}
    assert 40 not in gains_table(results, group_agents(results)[0]).labels


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([4, 4], "every number of labels once"),
        (
            [10, 5, 7],
            r"^'report_at' is \[10, 5, 7\], expected increasing numbers of labels: write report_at=\[5, 7, 10\]$",
        ),
        (0, "'report_at' is 0"),
        (["x"], "'report_at' is 'x'"),
    ],
)
def test_what_are_no_numbers_of_labels_is_one_sentence(value, named):
    with pytest.raises(UserError, match=named):
        config(report_at=value)


def test_a_budget_is_met_to_its_last_label(tmp_path):
    run(config(env={"id": "FeatureDuel", "dim": 3, "batch": 2}, budget=7, report_at=[4, 7]), tmp_path / "run")
    results = Results(tmp_path / "run")
    assert gains_table(results, group_agents(results)[0]).labels == (4, 7)


def test_it_decides_what_a_run_is_only_where_it_is_set(tmp_path):
    assert "report_at" not in config().deciding() and config(report_at=4).deciding()["report_at"] == [4]
    assert RunConfig.from_dict(config(report_at=[4, 6]).to_dict()).report_at == (4, 6)


def test_the_forecast_counts_these_evaluations(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(
        "duelenv.experiments.running.forecast.Forecast", lambda **given: counted.append(given) or Made(given)
    )
    dry_run(config(report_at=[6, 8, 20], evaluate_every=4), tmp_path / "run")
    assert [given["evaluations"] for given in counted] == [5, 5]  # after 0, 3, 4, 8 and 10 rounds of two labels


class Made:
    def __init__(self, given):
        self.__dict__ |= given
        self.seconds = 0.0
