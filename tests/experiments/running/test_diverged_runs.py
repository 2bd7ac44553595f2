"""A run whose policy leaves the numbers: one sentence, the state from before the step, nothing asked twice."""

from __future__ import annotations

import pytest
import torch
import yaml

from duelenv import UserError
from duelenv.agents.losses import DPO
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.loading import load
from duelenv.experiments.folder.layout import AGENT, RunFolder
from duelenv.experiments.running import checkpoints
from duelenv.experiments.running.assembly import make_agent, make_environment
from duelenv.experiments.running.runner import run
from duelenv.experiments.running.start_policy import start_policy
from duelenv.policies import CausalLMPolicy, tiny_model

RAW = {
    "name": "hot",
    "env": {"id": "AlignmentDuel", "num_envs": 3, "horizon": 4, "num_candidates": 3},
    "prompts": {"toy": {"train": 8, "test": 3}},
    "oracle": {"name": "length"},
    "agents": {"passive": {"learning_rate": 1e9, "max_grad_norm": None}},
    "seeds": 1,
    "jobs": 1,
}


@pytest.fixture
def config(tmp_path):
    model, tokenizer = tiny_model("gpt_neox", seed=0)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    path = tmp_path / "hot.yaml"
    path.write_text(yaml.safe_dump(RAW | {"policy": {"path": str(tmp_path / "model"), "max_new_tokens": 6}}))
    return path


def test_a_run_that_diverges_stops_with_one_sentence_and_a_state_to_go_on_from(tmp_path, config, capsys):
    """One step a round, after which the next draw would be of logits that are not numbers: it is not taken."""
    output = tmp_path / "run"
    command = ["run", str(config), "--output", str(output)]
    assert main(command) == 2
    *_, said = capsys.readouterr().err.strip().splitlines()
    place = RunFolder(output).cell("passive-seed0").diverged
    for words in (
        "Gradient step 1 of the policy is not finite (loss 0.693147, gradient norm ",
        "; with the weights that it leads to, log-probs are not finite) in round 0 on a batch of 3 pairs: ",
        f"it was not taken, and the state from before it is in {str(place)!r}; ",
        "set a smaller learning_rate (here 1e+09); the same command",
        f"'--output NEW --answers {output}'",
    ):
        assert words in said
    state = checkpoints.load(place / AGENT)["agent"]
    assert state["schooling"]["learner"]["trainer"]["gradient_steps"] == 0
    start = start_policy(load(config)).parameters()
    assert all(torch.equal(a, b) for a, b in zip(CausalLMPolicy.load(place).parameters(), start, strict=True))
    assert not (place.parent / "error.txt").exists()  # it is no failure of somebody's code
    assert "is not finite" in (place.parent / "refused.txt").read_text()
    assert main(command) == 2  # comes to the same step
    assert said in capsys.readouterr().err
    cooler = ["agents.passive.learning_rate=1e-4", f"policy.path={place.parents[2].parent / 'model'}"]
    assert main(["run", str(config), *cooler, "--output", str(tmp_path / "new"), "--answers", str(output)]) == 0
    assert not RunFolder(tmp_path / "new").cell("passive-seed0").diverged.exists()


def test_policy_and_agent_go_on_from_what_was_saved(tmp_path, config, monkeypatch):
    calls, rows = [], DPO.rows

    def breaking(loss, batch):
        calls.append(batch)
        return rows(loss, batch) * (1.0 if len(calls) <= 2 else float("nan"))

    gentle = ["agents.passive.learning_rate=1e-3", "agents.passive.gradient_steps=1"]
    with monkeypatch.context() as patched:
        patched.setattr(DPO, "rows", breaking)
        with pytest.raises(
            UserError, match=r"Gradient step 3 of the policy is not finite .* in round 2 on a batch of 3"
        ):
            run(load(config, gentle), tmp_path / "run")
    place = RunFolder(tmp_path / "run").cell("passive-seed0").diverged
    same = load(config, gentle)
    policy = start_policy(same)
    agent = make_agent(same, "passive", make_environment(same, policy=policy), 0)
    agent.load_state_dict(checkpoints.load(place / AGENT)["agent"])
    assert agent.gradient_steps == 2
    loaded = load(config, [*gentle, f"policy.path={place}"])
    started = start_policy(loaded).parameters()
    assert all(torch.equal(a, b) for a, b in zip(started, policy.parameters(), strict=True))
    run(loaded, tmp_path / "new", answers=tmp_path / "run")
    assert RunFolder(tmp_path / "new").cell("passive-seed0").finished
    run(same, tmp_path / "run")  # what was wrong is gone
    assert RunFolder(tmp_path / "run").cell("passive-seed0").finished and not place.exists()
