# /// script
# requires-python = ">=3.11"
# dependencies = ["accelerate", "duelenv", "gymnasium", "numpy", "torch"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A model of your own on several cards: what `real_model.py` does, in several processes that share every step.

    accelerate launch --num_processes 4 examples/distributed.py path/to/model prompts.txt aligned --chat
    accelerate launch --num_processes 4 examples/distributed.py path/to/model prompts.txt aligned --chat --shard

Each process has the whole model, or with `--shard` a share of its weights (FSDP2). All of them play the same rounds
and draw the same responses; the pairs of a step are divided. `accelerate launch` starts one process on a machine
without cards; `torchrun --nproc-per-node 2` starts two. Out come the win rate and the KL as labels come, and a folder
that transformers loads.
"""

import argparse
from pathlib import Path

import gymnasium
import numpy as np
import torch
from accelerate import Accelerator

import duelenv
from duelenv.policies import CausalLMPolicy


def shorter(prompts, first, second):
    """Give P(first preferred): each word less is worth half a nat of log-odds."""
    lengths = [[len(text.split()) for text in texts] for texts in (first, second)]
    return 1 / (1 + np.exp(0.5 * np.subtract(*lengths)))


def read_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="folder or hub name of a causal language model")
    parser.add_argument("prompts", type=Path, help="text file, one prompt a line")
    parser.add_argument("output", type=Path, help="folder for the aligned model")
    parser.add_argument("--agent", default="thompson", help="a name of 'duelenv list'")
    parser.add_argument("--chat", action="store_true", help="prompts are messages in the tokenizer's chat template")
    parser.add_argument("--shard", action="store_true", help="each process keeps a share of the weights")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="prompts a round, each with one label")
    parser.add_argument("--candidates", type=int, default=8, help="responses to each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="longest response")
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    return parser.parse_args()


def main() -> None:
    """Align the model that the command line names."""
    given = read_arguments()
    # The processes find each other here, before there is an agent.
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    device = "cpu" if given.shard else accelerator.device
    settings = {"max_new_tokens": given.tokens, "chat_template": given.chat, "device": device}
    policy = CausalLMPolicy.from_pretrained(given.model, **settings)
    if given.shard:
        policy.shard(accelerator.device)

    # From here on every process does the same, with equal seeds; the agent's steps are shared.
    prompts = [line for line in given.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    sizes = {"num_envs": given.batch, "num_candidates": given.candidates, "horizon": given.rounds}
    env = gymnasium.make_vec("duelenv/AlignmentDuel-v0", policy=policy, oracle=shorter, prompts=prompts, **sizes)
    training = {"learning_rate": given.learning_rate, "micro_batch": 8, "processes": "all"}
    agent = duelenv.agents.make(given.agent, env, seed=0, **training)
    observation, info = env.reset(seed=0)
    over, rounds = False, 0
    while not over:
        actions = agent.act(observation)
        following, labels, _, truncated, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation, over, rounds = following, truncated.all(), rounds + 1
        if over or rounds % 10 == 0:
            judged = env.unwrapped.evaluate(agent)
            win_rate, kl = judged["win_rate"][0], judged["kl"][0]
            accelerator.print(f"round {rounds}: {info['queries'][0]} labels, win rate {win_rate:.3f}, KL {kl:.2f} nats")

    # Of whole models one process writes; the shares of a sharded one come together in all of them.
    if accelerator.is_main_process or given.shard:
        policy.export(given.output, facts={"agent": given.agent, "win rate": win_rate})
    many = accelerator.num_processes
    accelerator.print(f"{agent.gradient_steps} steps of {many} processes; {given.output}", flush=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main()
