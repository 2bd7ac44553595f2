"""A run that is played for long holds what it held before: its labels are in the ledger, on the disk."""

import pytest
from growth import held

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running import play
from duelenv.experiments.running.runner import run
from duelenv.policies import tiny_model

FIRST, LAST = 40, 90


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["passive", "selm"])
def test_a_run_grows_by_its_ledger_alone(tmp_path, monkeypatch, agent):
    model, tokenizer = tiny_model("gpt_neox", hidden=16, layers=1, heads=2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = RunConfig.from_dict(
        {
            "name": "long",
            "env": {
                "id": "AlignmentDuel",
                "num_envs": 2,
                "horizon": LAST + 1,
                "sources": {"policy": 2, "reference": 2},
                "features": "start",  # some thousand words are remembered, which are not all said yet
            },
            "policy": {"path": str(tmp_path / "model"), "max_new_tokens": 4},
            "prompts": {"toy": {"train": 5, "test": 2}},
            "oracle": "length",
            "agents": [agent],
            "baseline": agent,
            "seeds": 1,
            "evaluate_every": LAST,
            "label_log": True,
            "jobs": 1,
        }
    )
    seen, sizes = {}, {}
    play_round = play._Run._round

    def counted(self):
        play_round(self)
        if self.step in (FIRST, LAST - 1):
            seen[self.step] = held()
            sizes[self.step] = self.ledger.counts.asked

    monkeypatch.setattr(play._Run, "_round", counted)
    run(config, tmp_path / "run")
    rounds = LAST - 1 - FIRST
    objects, tensors, arrays = (
        (after - before) / rounds for before, after in zip(seen[FIRST], seen[LAST - 1], strict=True)
    )
    assert sizes[LAST - 1] - sizes[FIRST] == 2 * rounds
    assert objects < 1 and tensors == 0 and arrays < 8
