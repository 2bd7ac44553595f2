"""A run whose purse is empty before anything was measured says so, and not that its metric is unknown."""

from __future__ import annotations

import yaml

from duelenv.experiments.commands.cli import main


def test_an_empty_purse_is_said_before_a_metric_that_nobody_has_measured_yet(tmp_path, capsys) -> None:
    rows = [f'{{"prompt": "p", "response": "{text}", "score": {len(text)}}}' for text in ("a", "b c", "d e f")]
    config = {
        "name": "unpaid",
        "env": {"id": "PoolDuel", "horizon": 2, "batch": 2},
        "data": "pool.jsonl",
        "oracle": {"name": "length", "price": 1.0},
        "metric": "loss",
        "budget": {"money": 1.5},
        "agents": ["passive"],
        "seeds": 1,
    }
    more = [row.replace('"p"', f'"p{number}"') for number in range(4) for row in rows]
    (tmp_path / "pool.jsonl").write_text("\n".join(more), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["run", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]) == 3
    assert "budget.money" in capsys.readouterr().err
