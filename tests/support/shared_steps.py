"""Rounds that one process plays, or two together: `accelerate launch --multi_gpu tests/support/shared_steps.py FOLDER`.

Each case leaves the policy's weights and figures after its first and its last round, FOLDER/CASE-PROCESS.npz.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from known_shortcuts import find_shortcuts_once
from numpy.typing import NDArray

import duelenv.agents
from duelenv import UserError
from duelenv.agents import distributed
from duelenv.policies import CausalLMPolicy, causal_lm, tiny_model
from duelenv.policies.sharding import whole

ROUNDS = 3
SOURCES = {"policy": 3, "reference": 2}
CASES: dict[str, dict[str, Any]] = {
    "odd": {"rows": 5},
    "odd-micro": {"rows": 5, "micro_batch": 1},
    "fewer-pairs-than-processes": {"rows": 1},
    # A bias of keys has the gradient 0, and AdamW makes steps of its rounding: twice the batch moves it as far.
    "gpt_neox": {"rows": 4, "family": "gpt_neox", "micro_batch": 2, "learning_rate": 5e-5},
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
NOT_SHARDED = ("moving",)


class MeanOfMeans(distributed.Together):
    """Averages the processes' own means, as data parallelism does that knows nothing of shares."""

    def counted(self, count, cut):
        for part, weight in super().counted(count, cut):
            yield part, weight * count / len(self.share(count)) / 2


class ClippedApart(distributed.Together):
    """Clips what each process has before the sum."""

    def add_gradients(self, parameters):
        torch.nn.utils.clip_grad_norm_(parameters, 1e-2)
        return super().add_gradients(parameters)


def made(
    name: str = "passive",
    rows: int = 5,
    family: Any = "llama",
    lora: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    world_seed: int = 3,
    shard: Any = False,
    **settings: Any,
) -> tuple[Any, Any, Any]:
    """Make a world of short texts and an agent: world, agent and first observation."""
    import gymnasium

    from duelenv.policies.loading import add_lora

    model, tokenizer = tiny_model(family, seed=0)
    model = model.to(dtype)
    policy = CausalLMPolicy(model if lora is None else add_lora(model, lora), tokenizer, max_new_tokens=6)
    if shard:
        policy.shard(by=None if shard is True else shard)
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=rows,
        policy=policy,
        oracle=lambda prompts, first, second: 1 / (1 + np.exp(np.char.str_len(first) - np.char.str_len(second))),
        prompts=[f"tell me about the {noun}" for noun in ("garden", "river", "house", "teacher", "doctor")],
        sources=SOURCES,
        # Steps before a belief knows anything are of gradients near 0, which Adam makes as large as others.
        features="start",
        horizon=ROUNDS,
    )
    agent = duelenv.agents.make(name, env, seed=1, **{"processes": "all", **settings})
    return env, agent, env.reset(seed=world_seed)[0]


def played(env: Any, agent: Any, observation: Any) -> tuple[Any, dict[str, float]]:
    """Play a round and return the next observation and the figures."""
    actions = agent.act(observation)
    following, labels, _, _, info = env.step(actions)
    return following, agent.update(observation, actions, labels, info["late"])


def sharded_by_accelerate(model: Any) -> None:
    """Shard a model as `Accelerator.prepare` does under FSDP2; an Accelerator on a CPU makes no use of it."""
    from types import SimpleNamespace

    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    accelerator: Any = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=None,
        mixed_precision="no",
        is_main_process=True,
        device=torch.device("cpu"),
    )
    fsdp2_prepare_model(accelerator, model)


def weights_of(policy: Any) -> NDArray[np.float32]:
    """Return all weights that train, one after the other."""
    found: NDArray[np.float32] = torch.cat(
        [whole(parameter.detach()).float().flatten() for parameter in policy.parameters()]
    ).numpy()
    return found


def play(**settings: Any) -> dict[str, NDArray[Any]]:
    """Play rounds of AlignmentDuel and return what became of the policy, by names."""
    env, agent, observation = made(**settings)
    found: dict[str, NDArray[Any]] = {}
    for number in range(1, ROUNDS + 1):
        observation, figures = played(env, agent, observation)
        if number in (1, ROUNDS):
            found[f"weights {number}"] = weights_of(agent.learner.policy)
            found |= {f"{figure} {number}": np.asarray(value) for figure, value in figures.items()}
    found["steps"] = np.asarray(agent.gradient_steps)
    return found


def said_by(function: Any) -> str:
    """Return the sentence by which a call is refused, or nothing."""
    try:
        function()
    except UserError as error:
        return str(error)
    return ""


def keep(folder: Path, rank: int, case: str) -> None:
    """Play with a sharded policy, leave its files, and play the rest twice: on and on, and from the kept state."""
    env, agent, observation = made(**CASES[case], shard=True)
    observation, _ = played(env, agent, observation)
    state = {"env": env.state_dict(), "agent": agent.state_dict()}
    policy = agent.learner.policy
    policy.save(folder / f"{case}-saved")
    texts, tokens, mask = list(observation["prompt"]), observation["tokens"], observation["mask"]
    found = {
        "prompts": np.array(texts),
        "tokens": tokens,
        "mask": mask,
        "score": policy.score(texts, tokens, mask),
        "start": policy.score(texts, tokens, mask, source="start"),
        "embedded": policy.embed(texts, tokens, mask),
        "weights 1": weights_of(policy),
    }
    if rank == 0:
        torch.save(state["agent"], folder / f"{case}-state.pt")
    played(env, agent, observation)
    again, other, _ = made(**CASES[case], shard=True)
    other.load_state_dict(state["agent"])
    played(again, other, again.load_state_dict(state["env"]))
    found |= {"on": weights_of(policy), "resumed": weights_of(other.learner.policy)}
    np.savez(folder / f"{case}-kept-{rank}.npz", **found)


def failed_step(rank: int, **settings: Any) -> str:
    """Let the first process alone have a loss that is not finite, and return what is said where weights are kept."""
    env, agent, observation = made(**settings)
    observation, _ = played(env, agent, observation)
    before, terms = weights_of(agent.learner.policy), agent.learner._terms

    def failing(*arguments: Any) -> Any:
        for term in terms(*arguments):
            yield term + (float("inf") if rank == 0 else 0.0)

    agent.learner._terms = failing
    said = said_by(lambda: played(env, agent, observation))
    kept = np.array_equal(weights_of(agent.learner.policy), before) and agent.gradient_steps == 1
    return said if kept else "weights moved"


def main(folder: Path) -> None:
    """Play every case and the wrong ways with the processes that were launched."""
    from accelerate import PartialState

    causal_lm.find_shortcuts = find_shortcuts_once
    rank = PartialState(cpu=True).process_index
    right = distributed.Together
    for case, settings in CASES.items():
        np.savez(folder / f"{case}-{rank}.npz", **play(**settings))
        if case not in NOT_SHARDED:
            np.savez(folder / f"{case}-sharded-{rank}.npz", **play(**settings, shard=True))
    for case in ("odd", "belief", "adapter"):
        np.savez(folder / f"{case}-accelerate-{rank}.npz", **play(**CASES[case], shard=sharded_by_accelerate))
    for case, wrong in (("odd", MeanOfMeans), ("clipped", ClippedApart)):
        distributed.Together = wrong
        np.savez(folder / f"{case}-{wrong.__name__}-{rank}.npz", **play(**CASES[case]))
    distributed.Together = right
    for case in ("odd", "adapter"):
        keep(folder, rank, case)
    policy = made(shard=True)[1].learner.policy
    said = {
        "different": said_by(lambda: play(world_seed=rank)),
        "alone": said_by(lambda: play(shard=True, processes="one")),
        "moving": said_by(lambda: made(shard=True, reference="moving")),
        "moved": said_by(policy.move_reference),
        "clone": said_by(policy.clone),
        "twice": said_by(policy.shard),
        "failed": failed_step(rank),
        "failed sharded": failed_step(rank, shard=True),
    }
    (folder / f"said-{rank}.json").write_text(json.dumps(said), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # Of finished processes that used FSDP2 over gloo, torch 2.13 aborts some as the interpreter ends.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
