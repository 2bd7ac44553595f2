"""Money in runs: spent before the question and never beyond; the run stops with its state, and goes on with more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from paid_runs import asked, labels, paid_run, results

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import BudgetConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.spending import spending_of
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.runner import OutOfBudget, run
from duelenv.ground.errors import UserError


def priced(folder: Path, **changes: object) -> RunConfig:
    """Two agents, 24 answers each, at 0.5."""
    return paid_run(folder, oracle={"name": "paid", "folder": str(folder), "price": 0.5}, **changes)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_empty_purse_stops_the_run_which_goes_on_with_more(tmp_path: Path, jobs: int) -> None:
    config = priced(tmp_path, budget={"money": 15}, jobs=jobs)
    sentence = r"The next answer may .*'budget\.money' goes on; \d of 2 cells are unfinished and left out"
    for _ in range(2):
        with pytest.raises(OutOfBudget, match=sentence) as told:
            run(config, tmp_path / "run")
        assert told.value.exit_code == 3
        assert sum(asked(tmp_path).values()) <= 30
    spending = spending_of(RunFolder(tmp_path / "run"), config)
    assert spending is not None and spending.spent.money == 0.5 * sum(asked(tmp_path).values())
    run(priced(tmp_path, budget={"money": 24}, jobs=jobs), tmp_path / "run")
    run(priced(tmp_path / "whole"), tmp_path / "whole" / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))
    assert labels(tmp_path / "run").equals(labels(tmp_path / "whole" / "run"))
    assert asked(tmp_path) == asked(tmp_path / "whole")


def test_what_was_spent_stands_in_the_report_and_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = priced(tmp_path, budget={"money": 100})
    run(config, tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    assert "<dt>money</dt><dd>24 of 100</dd>" in page
    assert json.loads((tmp_path / "run" / "spending.json").read_text()) == {
        "tokens": 0,
        "money": 24.0,
        "tokens_limit": None,
        "money_limit": 100.0,
    }
    assert main(["run", str(tmp_path / "run" / "config.yaml"), "--output", str(tmp_path / "run")]) == 0
    assert "spent    24 of 100 in money" in capsys.readouterr().out


def test_where_nothing_costs_nothing_is_said(tmp_path: Path) -> None:
    run(paid_run(tmp_path), tmp_path / "run")
    assert "Spending" not in write_report(tmp_path / "run").read_text()
    assert not (tmp_path / "run" / "spending.json").exists()


def test_the_cost_is_foreseen_by_the_prices_of_oracles(tmp_path: Path) -> None:
    said = dry_run(priced(tmp_path, budget={"money": 15}), tmp_path / "run")
    assert "24.00 at most, 48 answers at 0.5 each" in said
    assert "15.0 in money, then the run stops" in said
    assert not asked(tmp_path)
    fused = dry_run(priced(tmp_path, budget={"run": 10}), tmp_path / "run")
    assert "5.00 at most, 10 answers at 0.5 each" in fused


def test_a_crowd_is_paid_though_it_is_computed(tmp_path: Path) -> None:
    oracle = {"name": "crowd", "utilities": {"u": {"name": "length"}}, "annotators": [{"price": 0.25}], "votes": 1}
    config = paid_run(tmp_path, oracle=oracle, budget={"money": 8})
    assert "12.00 at most, 48 answers at 0.25 each" in dry_run(config, tmp_path / "run")
    with pytest.raises(OutOfBudget):
        run(config, tmp_path / "run")
    spending = spending_of(RunFolder(tmp_path / "run"), config)
    assert spending is not None and 6.0 <= spending.spent.money <= 8.0


def test_limits_do_not_decide_what_a_run_is(tmp_path: Path) -> None:
    assert priced(tmp_path, budget={"money": 15, "tokens": 3}).identity() == priced(tmp_path).identity()


def test_a_limit_on_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'budget\.tokens' is 9, a limit on what oracles cost"):
        run(paid_run(tmp_path, oracle=None, budget={"tokens": 9}), tmp_path / "run")


def test_requests_that_are_open_when_the_money_ends_are_paid_once(tmp_path: Path) -> None:
    parts = str(Path(__file__).parents[1] / "running" / "run_parts.py")
    config = paid_run(tmp_path, oracle={"name": "slow_desk", "price": 0.5}, modules=[parts], agents=["passive"])
    short = dataclasses.replace(config, budget=BudgetConfig(money=7.0))
    for _ in range(2):
        with pytest.raises(OutOfBudget, match=r"budget\.money"):
            run(short, tmp_path / "run")
        spending = spending_of(RunFolder(tmp_path / "run"), config)
        assert spending is not None and spending.spent.money == 6.0  # three rounds of four
    run(config, tmp_path / "run")
    spending = spending_of(RunFolder(tmp_path / "run"), config)
    assert spending is not None and spending.spent.money == 12.0  # 24 requests, each once
