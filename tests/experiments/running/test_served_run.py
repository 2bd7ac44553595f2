"""Runs whose oracle is a reward model behind a server: a dead server stops them, and the same command goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from paid_runs import labels, paid_run, results
from rude_server import GOOD, Behaviour, RudeServer, Seen, rude_server

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.runner import run


def lengths(seen: Seen) -> Any:
    scores = [len(text) / 8.0 for text in seen.body["input"]]
    return {"data": [{"index": place, "probs": [score]} for place, score in enumerate(scores)]}


def config_of(folder: Path, server: RudeServer, **changes: Any) -> Any:
    oracle = {
        "name": "reward_server",
        "url": server.url,
        "api": "vllm_classify",
        "batch_size": 2,
        "patience": {"attempts": 2, "pause": 0.001, "width": 1},
    }
    return paid_run(folder, oracle=oracle, **changes)


def asked(server: RudeServer, served: slice = slice(None)) -> Counter[str]:
    return Counter(text for one in server.seen[served] for text in one.body["input"])


def test_a_dead_server_stops_the_run_and_the_same_command_goes_on(tmp_path: Path, capsys: Any) -> None:
    with rude_server(lengths) as server:
        run(config_of(tmp_path / "whole", server), tmp_path / "whole" / "run")
        assert set(asked(server).values()) == {1}
        whole = set(asked(server))
        server.seen.clear()
        server.script += [GOOD] * 3 + [Behaviour(status=503)] * 100
        config = config_of(tmp_path, server)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config.to_dict()))
        assert main(["run", str(path), "--output", str(tmp_path / "run")]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("duelenv: ")]
        assert "responses have no score" in line and "gives no readable answer (503)" in line
        server.script.clear()
        dead = len(server.seen)
        run(config, tmp_path / "run")
        # What was answered before the server died is asked no more, nor is anything asked twice after.
        answered = asked(server, slice(0, 3)) + asked(server, slice(dead, None))
        assert set(answered) == whole and set(answered.values()) == {1}
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))
    assert labels(tmp_path / "run").equals(labels(tmp_path / "whole" / "run"))


def test_money_is_spent_once_by_all_cells_and_ends_in_a_sentence(tmp_path: Path, capsys: Any) -> None:
    with rude_server(lengths) as server:
        config = config_of(tmp_path, server, budget={"money": 1.0})
        raw = config.to_dict()
        raw["oracle"]["price"] = 0.1
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw))
        assert main(["run", str(path), "--output", str(tmp_path / "run")]) == 2
        assert "with a larger 'budget.money' goes on" in capsys.readouterr().err
        assert sum(asked(server).values()) == 10
        raw["budget"]["money"] = 100.0
        run(RunConfig.from_dict(raw), tmp_path / "run")
        assert set(asked(server).values()) == {1}


def test_a_dry_run_asks_no_server(tmp_path: Path) -> None:
    with rude_server(lengths) as server:
        said = dry_run(config_of(tmp_path, server), tmp_path / "run")
        assert server.seen == []
    assert "nothing was asked" in said and "cost" in said
    assert not RunFolder(tmp_path / "run").root.exists()
