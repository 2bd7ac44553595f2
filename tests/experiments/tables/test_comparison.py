"""Comparisons stay equal: the same steps beside the same steps, the same world but for what an agent needs."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up_runs import add_column, change_config, numeric_run, policy_run, regret_run

import duelenv
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run
from duelenv.experiments.tables.comparison import comparison_table
from duelenv.experiments.tables.regret import regret_table
from duelenv.experiments.tables.statistics import mean_interval


def plain(**agents):
    return {
        "name": "equal",
        "env": {"id": "AlignmentDuel", "num_envs": 2, "num_candidates": 4, "horizon": 2},
        "policy": {"toy": {"seed": 0}},
        "prompts": {"list": {"train": ["tell me about the garden"], "test": ["tell me about the river"]}},
        "oracle": {"name": "length"},
        "agents": agents,
        "seeds": 2,
        "evaluate_every": 1,
        "jobs": 1,
    }


@pytest.mark.slow
def test_an_agent_with_more_steps_is_also_compared_at_equal_steps(tmp_path):
    config = RunConfig.from_dict(
        plain(
            passive={},
            passive_2x={"name": "passive", "gradient_steps": 2},
            real={},
            thompson={},
            selm={"env": {"sources": {"policy": 2, "reference": 2}}},
        )
    )
    run(config, tmp_path / "run")
    table = comparison_table(Results(tmp_path / "run"))
    lines = {line.agent: line for line in table.lines}
    assert {name: line.peer for name, line in lines.items()} == {
        "passive": None,
        "passive_2x": None,  # it is the baseline's variant itself
        "real": None,  # as many steps as the baseline
        "selm": None,
        "thompson": "passive_2x",
    }
    difference = lines["thompson"].primary.mean - lines["passive_2x"].primary.mean
    assert lines["thompson"].peer_difference.mean == pytest.approx(difference)
    assert "(to passive_2x)" in table.text()


def test_an_agent_may_change_its_candidates_but_not_its_budget():
    config = RunConfig.from_dict(plain(passive={}, selm={"env": {"sources": {"policy": 2, "reference": 2}}}))
    assert config.for_agent("selm").env.settings["sources"] == {"policy": 2, "reference": 2}
    assert "sources" not in config.for_agent("passive").env.settings
    assert RunConfig.from_dict(config.to_dict()).identity() == config.identity()
    for key in ("horizon", "num_envs"):
        with pytest.raises(duelenv.UserError, match="unequal"):
            RunConfig.from_dict(plain(passive={"env": {key: 5}}))


def test_the_table_tells_a_difference_from_noise(tmp_path):
    table = comparison_table(Results(policy_run(tmp_path)))
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


def test_what_shows_alone_need_not_show_among_many(tmp_path):
    """The difference of `slightly` misses 0 by little; ten agents that are like the baseline take that from it."""
    noise = np.random.default_rng(0).normal(0.0, 0.01, (10, 4))
    slightly = {"passive": [0.70, 0.72, 0.71, 0.69], "slightly": [0.72, 0.73, 0.74, 0.705]}
    many = slightly | {f"other_{number}": (0.705 + noise[number]).tolist() for number in range(10)}
    for agents, shown in ((slightly, True), (many, False)):
        table = comparison_table(Results(policy_run(tmp_path / str(len(agents)), agents=agents)))
        line = next(line for line in table.lines if line.agent == "slightly")
        assert line.difference.low > 0
        assert (line.verdict == "") == shown
        assert ("corrected for 11 comparisons (Holm)" in table.caption) == (not shown)


def test_one_seed_shows_nothing(tmp_path):
    table = comparison_table(Results(policy_run(tmp_path, seeds=1)))
    assert "(one seed)" in table.text()
    assert table.caption.startswith("1 seed;")


def test_references_stand_beside_the_agents(tmp_path):
    results = Results(numeric_run(tmp_path))
    assert results.primary == "simple_regret"
    table = comparison_table(results)
    assert [line.agent for line in table.lines] == ["passive", "real", "(longest response)"]
    assert table.lines[2].primary.mean == 2
    assert "gradient steps" not in table.header()


def directions(table):
    return [table.direction(line) for line in table.lines]


def test_differences_are_better_or_worse_where_a_direction_is_known(tmp_path):
    directory = policy_run(tmp_path, agents={"passive": [0.7] * 2, "up": [0.8] * 2, "down": [0.6] * 2}, seeds=2)
    table = comparison_table(Results(directory))
    assert directions(table) == ["", "better", "worse"]
    assert "win rate: higher is better" in table.caption
    table = comparison_table(Results(change_config(directory, metric="kl")))
    assert directions(table) == ["", "worse", "better"]
    assert "KL to start: lower is better" in table.caption


def test_differences_are_only_higher_or_lower_where_nobody_said(tmp_path):
    directory = policy_run(tmp_path, agents={"passive": [0.7] * 2, "up": [0.8] * 2, "down": [0.6] * 2}, seeds=2)
    rates = pq.read_table(directory / "results.parquet")["win_rate"].to_numpy()
    add_column(directory, "regrets_avoided", rates, from_agent=True)
    table = comparison_table(Results(change_config(directory, metric="regrets_avoided")))
    assert directions(table) == ["", "higher", "lower"]
    assert "regrets avoided: nobody said which way is better" in table.caption
    assert "is better;" not in table.caption.replace("nobody said which way is better;", "")


def test_no_difference_has_no_direction(tmp_path):
    directory = add_column(policy_run(tmp_path), "own", 2.0)
    assert directions(comparison_table(Results(change_config(directory, metric="own")))) == ["", "", ""]


def test_less_regret_is_better(tmp_path):
    table = regret_table(Results(regret_run(tmp_path, {"random": 1.0, "other": 0.5})))
    assert [(line.agent, table.direction(line)) for line in table.lines] == [("other", "better"), ("random", "")]


def test_a_figure_of_a_whole_cell_shows_nothing_about_seeds(tmp_path):
    directory = numeric_run(tmp_path)
    table = pq.read_table(directory / "results.parquet")
    first = table["seed"].to_numpy() == 0
    shift = table["agent"].to_numpy() == "real"
    add_column(directory, "own", np.where(first, 2.0 + shift, np.nan), from_agent=True)
    made = comparison_table(Results(change_config(directory, metric="own")))
    assert [line.primary.seeds for line in made.lines] == [1, 1]
    assert "+1.000 (one seed)" in made.text()


def test_a_table_on_a_terminal_holds_nothing_that_a_terminal_obeys(tmp_path):
    table = comparison_table(Results(policy_run(tmp_path)))
    object.__setattr__(table.lines[0], "agent", "\x1b[2J\x9b\u202ea")
    lines = table.text().splitlines()
    assert lines[2].startswith(r"\x1b[2J\x9b\u202ea  ")
    assert all(line.isprintable() for line in lines)
    assert len({line.index("0.") for line in lines[2:]}) == 1  # still aligned


def test_a_divergence_below_zero_is_explained_and_no_other(tmp_path):
    table = comparison_table(Results(policy_run(tmp_path)))
    assert "KL" not in table.caption
    place = table.others.index("kl")
    lines = [
        replace(line, others=(*line.others[:place], mean_interval([-0.02, -0.01]), *line.others[place + 1 :]))
        for line in table.lines
    ]
    assert "near 0 the estimate may fall below it" in replace(table, lines=tuple(lines)).caption
