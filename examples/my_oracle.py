# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A preference oracle as a plain function: it likes short answers, and says so with probability 0.9.

Run it: `python examples/my_oracle.py` (the first time it builds the toy language model, some seconds). Out come the
win rate of the policy that learnt from it, and three prompts with what the policy said before and says after.
"""

import gymnasium
import numpy as np

import duelenv
from duelenv.policies import toy_policy, toy_prompts


def brevity(prompts, first, second):
    """Give P(first preferred), one probability for each duel."""
    lengths = np.array([[len(a.split()), len(b.split())] for a, b in zip(first, second, strict=True)])
    return np.select([lengths[:, 0] < lengths[:, 1], lengths[:, 0] > lengths[:, 1]], [0.9, 0.1], 0.5)


def main() -> None:
    """Let the toy policy learn from it, and show what it says before and after."""
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=16,
        policy=toy_policy(seed=0),
        oracle=brevity,
        prompts=toy_prompts(64, "train"),
        test_prompts=toy_prompts(16, "test"),
        num_candidates=4,
        horizon=20,
    )
    agent = duelenv.agents.make("passive", env, seed=0, gradient_steps=2)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        actions = agent.act(observation)
        following, labels, _, truncated, _ = env.step(actions)
        agent.update(observation, actions, labels)
        observation, over = following, truncated.all()
    metrics = env.evaluate(agent)
    print(f"win rate against the start policy: {metrics['win_rate'][0]:.2f}")
    for example in env.examples(count=3):
        print(f"{example['prompt']}\n  before: {example['before']}\n  after:  {example['after']}")


if __name__ == "__main__":
    main()
