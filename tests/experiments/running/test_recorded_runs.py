"""A run that is answered out of another run's ledgers learns the same from the same."""

from __future__ import annotations

import pytest
import yaml

from duelenv.experiments.commands.cli import main
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.oracle_figures import oracle_lines
from duelenv.recorded import read_record

CONFIG = {
    "name": "first",
    "env": {"id": "duelenv/AlignmentDuel-v0", "num_envs": 2, "num_candidates": 3, "horizon": 2},
    "policy": {"toy": {"seed": 0}},
    "prompts": {"toy": {"train": 4, "test": 2}},
    "oracle": {"name": "length", "position_bias": 0.3},
    "agents": ["passive"],
    "baseline": "passive",
    "seeds": 1,
    "save_models": "none",
}


def test_a_run_is_answered_out_of_another_one(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    record = {"name": "recorded", "path": "first", "unknown": "refuse"}
    for folder, oracle in ((first, CONFIG["oracle"]), (second, record)):
        config = CONFIG | {"oracle": oracle, "evaluation_oracle": {"name": "length"}}
        file = tmp_path / f"{folder.name}.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        assert main(["run", str(file), "--output", str(folder), "--jobs", "1"]) == 0
    before, after = (read_record(folder) for folder in (first, second))
    assert before.num_pairs == 4
    for prompt in before.prompts:
        for pair in before.pairs_of(prompt):
            assert after.find(*pair[:3]) == pytest.approx(pair[3:])
    assert [(line.value, line.meaning) for line in oracle_lines(RunFolder(second))] == [
        ("0.0 %", "duels that it did not judge, of 4"),
        ("100.0 %", "duels answered by the very pair, of 4"),
        ("+1.000", "similarity of the recorded pairs that answered, of 4"),
    ]
