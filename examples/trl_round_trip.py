# /// script
# requires-python = ">=3.11"
# dependencies = ["datasets", "duelenv[trl]", "gymnasium", "trl"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""Labels are bought here, TRL trains on them, and the trained folder comes back: `python examples/trl_round_trip.py`.

A run buys 640 labels about responses of the toy policy, which takes a step on each round's 16. `duelenv labels --trl`
writes them, and TRL's DPO trainer goes over them three times, from the folder that the run started from. What it
leaves is loaded as `policy: {path: ...}` loads it, and judged in the world of the run, on its held-out prompts. All
folders are left in `trl_round_trip`, or in the one that is named. Out come the win rates of both against the start:
.82 and .88 on one machine, of 40 steps and of 120, so that they compare no trainers.
"""

import sys
from pathlib import Path

import datasets
import gymnasium
import trl

import duelenv
from duelenv.experiments.commands.cli import main as command
from duelenv.policies import CausalLMPolicy, toy_policy, toy_prompts


def buy(start, folder):
    """Play a run from a folder, write its labels for TRL, and return the win rate that it ended with."""
    run = duelenv.experiments.run(
        env={"id": "AlignmentDuel", "num_envs": 16, "num_candidates": 4, "horizon": 40},
        policy={"path": str(start), "max_new_tokens": 16},
        prompts={"toy": {"train": 64, "test": 24}},
        oracle="good_words",
        agents={"passive": {"learning_rate": 1e-3}},
        output=folder / "run",
        jobs=1,
        progress=False,
    )
    command(["labels", str(folder / "run"), "--trl", "--export", str(folder / "pairs.jsonl")])
    return run.results.final("passive", "win_rate")[0]


def train(start, folder):
    """Let TRL learn from the labels; return the folder of what it made."""
    cache = str(folder / "cache")
    pairs = datasets.load_dataset("json", data_files=str(folder / "pairs.jsonl"), split="train", cache_dir=cache)
    # TRL reads prompt and answer as one text, and the toy's tokenizer parts words by spaces.
    pairs = pairs.map(lambda row: {side: f" {row[side]}" for side in ("chosen", "rejected")})
    arguments = trl.DPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=16,
        num_train_epochs=3,
        learning_rate=1e-3,
        beta=0.1,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = trl.DPOTrainer(model=str(start), args=arguments, train_dataset=pairs)
    trainer.train()
    trainer.save_model(str(folder / "trained"))
    return folder / "trained"


def judge(start, trained):
    """Win rate of a trained policy against the one in a folder, in the world of the run."""
    policy = CausalLMPolicy.from_pretrained(start, max_new_tokens=16)
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=16,
        num_candidates=4,
        policy=policy,
        oracle=duelenv.oracles.make("good_words"),
        prompts=toy_prompts(64, "train"),
        test_prompts=toy_prompts(24, "test"),
    )
    env.reset(seed=0)
    policy.model.load_state_dict(trained.model.state_dict())
    policy.updated()  # the world compares it with what it was
    return env.evaluate(duelenv.agents.make("passive", env))["win_rate"][0]


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "trl_round_trip")
    toy_policy().export(place / "start")
    here = buy(place / "start", place)
    back = CausalLMPolicy.from_pretrained(train(place / "start", place), max_new_tokens=16)
    there = judge(place / "start", back)
    print(f"win rate against the start: trained here {here:.2f}, by TRL {there:.2f}")
    print(f"it says: {back.sample(['tell me about the garden'], 1, temperature=0).texts[0, 0]}")
