# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy", "torch", "transformers"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A model of your own, from its folder to the aligned one: load, align, watch, save, load with transformers, generate.

    python examples/real_model.py path/to/model prompts.txt aligned --chat --device cuda

Any causal language model that transformers loads. `prompts.txt` holds one prompt a line, of which every fifth is held
out. Who prefers what is a function here, for short answers; `--reward-model DIR` takes a reward model instead. Out
come the win rate and the KL as labels come, what the model said before and after, and a folder that needs nothing of
duelenv.
"""

import argparse
from pathlib import Path

import gymnasium
import numpy as np
import torch
from transformers import pipeline

import duelenv
from duelenv.oracles.reward_model import RewardModel
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
    parser.add_argument("--reward-model", help="who prefers what, instead of the function above")
    parser.add_argument("--agent", default="thompson", help="a name of 'duelenv list'")
    parser.add_argument("--chat", action="store_true", help="prompts are messages in the tokenizer's chat template")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="prompts a round, each with one label")
    parser.add_argument("--candidates", type=int, default=8, help="responses to each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="longest response")
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    return parser.parse_args()


def main() -> None:
    """Align the model that the command line names."""
    given = read_arguments()
    policy = CausalLMPolicy.from_pretrained(
        given.model, max_new_tokens=given.tokens, chat_template=given.chat, device=given.device
    )
    oracle = shorter
    if given.reward_model is not None:
        text = {"text": "chat"} if given.chat else {}
        oracle = RewardModel.from_pretrained(given.reward_model, device=given.device, **text)
    prompts = [line for line in given.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    sizes = {"num_envs": given.batch, "num_candidates": given.candidates, "horizon": given.rounds}
    env = gymnasium.make_vec("duelenv/AlignmentDuel-v0", policy=policy, oracle=oracle, prompts=prompts, **sizes)
    agent = duelenv.agents.make(given.agent, env, learning_rate=given.learning_rate, micro_batch=8)
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
            print(f"round {rounds}: {info['queries'][0]} labels, win rate {win_rate:.3f}, KL {kl:.2f} nats")
    for example in env.unwrapped.examples(count=3):
        print(f"\n{example['prompt']}\n  before: {example['before']}\n  after:  {example['after']}")
    policy.export(given.output, facts={"agent": given.agent, "win rate": win_rate, "labels": info["queries"][0]})

    # What is left knows nothing of duelenv.
    torch.manual_seed(0)
    generate = pipeline("text-generation", model=str(given.output), device=given.device)
    asked = [{"role": "user", "content": prompts[0]}] if given.chat else prompts[0]
    answer = generate(asked, do_sample=True, top_k=0, max_new_tokens=given.tokens, return_full_text=False)
    print(f"\n{given.output} says to {prompts[0]!r}: {answer[0]['generated_text']}")


if __name__ == "__main__":
    try:
        main()
    except (duelenv.UserError, OSError) as error:
        raise SystemExit(f"real_model.py: {error}") from None
