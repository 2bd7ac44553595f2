# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy", "torch"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A teacher of one's own in one file: the policy follows what a belief thinks of pairs, and never sees a raw label.

For the best and the worst response of a prompt under a posterior draw, p the belief's probability that the first is
better, the policy climbs (p - 1/2) log pi(first) + (1/2 - p) log pi(second), tied to its reference by a term that
raises what the reference says: the gradient of KL(reference || policy). Run it: `python examples/my_teacher.py
[ROUNDS]`. Out come the win rate and the KL of the policy after 60 rounds of 16 labels, none of which it was taught.
"""

import sys

import gymnasium
import numpy as np
import torch

import duelenv
from duelenv import oracles, policies
from duelenv.agents.base import register
from duelenv.agents.parts import compose
from duelenv.agents.trainer import Trainer, TrainerSettings

ANCHOR = 0.1  # how strongly the policy is tied to its reference


class Climber:
    """Moves the policy along a belief's preferences; the trainer does the rest."""

    def __init__(self, view, trainer):
        self.trainer = trainer
        self.reference = view.sources.index("reference")

    @property
    def gradient_steps(self):
        """Optimiser steps taken so far."""
        return self.trainer.gradient_steps

    def learn(self, pieces):
        """Leave raw labels to the belief."""
        return {}

    def teach(self, observation, duels):
        """Climb on pairs [M, 2] whose labels are the belief's probabilities."""
        duels = duels.labelled()
        prompts = observation["prompt"][duels.rows].tolist()
        places = duels.rows[:, np.newaxis], duels.pairs
        tied = np.flatnonzero(observation["source"][0] == self.reference)
        kept = duels.rows[:, np.newaxis], tied
        passes = self.trainer.passes(prompts, observation["mask"][places])
        signal = torch.as_tensor(duels.labels - 0.5, dtype=torch.float32)

        def terms():
            policy = self.trainer.policy
            for part in self.trainer.pieces(passes):
                shown = [observation[name][places][part] for name in ("tokens", "mask")]
                of_reference = [observation[name][kept][part] for name in ("tokens", "mask")]
                log_prob = policy.log_prob(prompts[part], *shown)  # (m, 2)
                pull = signal[part].to(log_prob) * (log_prob[:, 0] - log_prob[:, 1])
                tie = policy.log_prob(prompts[part], *of_reference).mean(1)
                yield -(pull + ANCHOR * tie).sum() / len(duels)

        norms = self.trainer.train(terms, self.trainer.settings.gradient_steps)
        return {"gradient_norm": norms[-1]} if norms else {}

    def implicit_reward(self, observation):
        """Return the log-probability of each candidate, [N, K]."""
        return self.trainer.policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])

    def state_dict(self):
        """Return policy, optimiser and counters."""
        return self.trainer.state_dict()

    def load_state_dict(self, state):
        """Continue from `state_dict`."""
        self.trainer.load_state_dict(state)


@register("climber")
def climber(view, seed, settings):
    """Ask by Thompson sampling, teach by climbing on the belief's best against its worst."""
    learner = Climber(view, Trainer(view.policy, settings.take(TrainerSettings)))
    return compose(view, seed, settings, name="climber", ask="thompson", teach="best_worst", learner=learner)


def main(rounds=60) -> None:
    """Let it align the toy policy to an oracle that likes kind words."""
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=16,
        policy=policies.toy_policy(seed=0),
        oracle=oracles.make("good_words"),
        prompts=policies.toy_prompts(64, "train"),
        test_prompts=policies.toy_prompts(16, "test"),
        sources={"policy": 6, "reference": 2},
        horizon=rounds,
    )
    agent = duelenv.agents.make("climber", env, seed=0, learning_rate=1e-3, target="mean")
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        actions = agent.act(observation)
        following, labels, _, truncated, _ = env.step(actions)
        agent.update(observation, actions, labels)
        observation, over = following, truncated.all()
    figures = env.evaluate(agent)
    print(f"win rate against the start policy: {figures['win_rate'][0]:.3f}, KL {figures['kl'][0]:.2f} nats")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
