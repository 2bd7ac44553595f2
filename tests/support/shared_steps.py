"""Rounds that one process plays, or two together: `accelerate launch --multi_gpu tests/support/shared_steps.py FOLDER`.

Each case leaves the policy's weights and figures after its first and its last round, FOLDER/CASE-PROCESS.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import duelenv.agents
from duelenv import UserError
from duelenv.agents import distributed
from duelenv.policies import CausalLMPolicy, tiny_model

ROUNDS = 3
SOURCES = {"policy": 3, "reference": 2}
CASES: dict[str, dict[str, Any]] = {
    "odd": {"rows": 5},
    "odd-micro": {"rows": 5, "micro_batch": 1},
    "fewer-pairs-than-processes": {"rows": 1},
    "llama": {"rows": 4, "family": "llama", "micro_batch": 2},
    "bonus": {"rows": 3, "name": "selm", "alpha": 0.5},
    "clipped": {"rows": 5, "max_grad_norm": 1e-2, "gradient_steps": 2},
    "unclipped": {"rows": 5, "max_grad_norm": None, "weight_decay": 0.1},
    "kto": {"rows": 5, "loss": "kto", "beta": 0.4},
    "belief": {"rows": 3, "name": "thompson"},
    "sets": {"rows": 3, "name": "thompson", "teach": "reward_distillation", "micro_batch": 2},
    "replay": {"rows": 3, "replay": 2},
    "moving": {"rows": 3, "reference": "moving", "reference_every": 1},
    "adapter": {"rows": 5, "lora": {"r": 2}, "micro_batch": 1},
    "bfloat16": {"rows": 5, "dtype": torch.bfloat16},
}


class MeanOfMeans(distributed.Together):
    """Averages the processes' own means, as data parallelism does that knows nothing of shares."""

    def counted(self, count, size):
        for part, weight in super().counted(count, size):
            yield part, weight * count / len(self.share(count)) / 2


class ClippedApart(distributed.Together):
    """Clips what each process has before the sum."""

    def add_gradients(self, parameters):
        torch.nn.utils.clip_grad_norm_(parameters, 1e-2)
        return super().add_gradients(parameters)


def play(
    name: str = "passive",
    rows: int = 5,
    family: Any = "gpt_neox",
    lora: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    world_seed: int = 3,
    **settings: Any,
) -> dict[str, NDArray[np.float32]]:
    """Play rounds of AlignmentDuel and return what became of the policy, by names."""
    import gymnasium

    from duelenv.policies.loading import add_lora

    model, tokenizer = tiny_model(family, seed=0)
    model = model.to(dtype)
    policy = CausalLMPolicy(model if lora is None else add_lora(model, lora), tokenizer, max_new_tokens=6)
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=rows,
        policy=policy,
        oracle=lambda prompts, first, second: 1 / (1 + np.exp(np.char.str_len(first) - np.char.str_len(second))),
        prompts=[f"tell me about the {noun}" for noun in ("garden", "river", "house", "teacher", "doctor")],
        sources=SOURCES,
        horizon=ROUNDS,
    )
    agent = duelenv.agents.make(name, env, seed=1, **{"learning_rate": 1e-4, "processes": "all", **settings})
    observation, _ = env.reset(seed=world_seed)
    found = {}
    for number in range(1, ROUNDS + 1):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        figures = agent.update(observation, actions, labels, info["late"])
        observation = following
        if number in (1, ROUNDS):
            weights = [parameter.detach().float().flatten() for parameter in policy.parameters()]
            found[f"weights {number}"] = torch.cat(weights).numpy()
            found |= {f"{figure} {number}": np.float64(value) for figure, value in figures.items()}
    found["steps"] = np.asarray(agent.gradient_steps)
    return found


def main(folder: Path) -> None:
    """Play every case and the wrong ways with the processes that were launched."""
    from accelerate import PartialState

    rank = PartialState(cpu=True).process_index
    right = distributed.Together
    for case, settings in CASES.items():
        np.savez(folder / f"{case}-{rank}.npz", **play(**settings))
    for case, wrong in (("odd", MeanOfMeans), ("clipped", ClippedApart)):
        distributed.Together = wrong
        np.savez(folder / f"{case}-{wrong.__name__}-{rank}.npz", **play(**CASES[case]))
    distributed.Together = right
    try:
        play(world_seed=rank)
    except UserError as error:
        (folder / f"different-{rank}.txt").write_text(str(error), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
