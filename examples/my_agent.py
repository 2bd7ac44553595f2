# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A new exploration agent in one function: duel the two candidates whose outcome is hardest to foresee.

Run it: `python examples/my_agent.py`. Out come the simple regret of random pairs and of this rule after as many
labels, and its standard error over replicates. `make("coin_flip", env)` finds it, and a config whose `modules` name
this file.
"""

import gymnasium
import numpy as np

import duelenv
from duelenv.agents.asking import ASK
from duelenv.agents.base import register
from duelenv.agents.parts import compose
from duelenv.agents.selection import infomax_pair, random_order


@ASK.register("coin_flip")
def ask_coin_flip(resources, settings):
    """Choose the pair whose win probability the posterior is least sure of."""

    def select(observation, groups):
        draws = resources.belief.sample(observation["features"], num_samples=8)
        return random_order(infomax_pair(draws, groups), resources.streams)

    return select


@register("coin_flip")
def coin_flip(view, seed, settings):
    """Duel by this rule; where there is a policy, teach it what the duels say."""
    return compose(view, seed, settings, name="coin_flip", ask="coin_flip")


def main() -> None:
    """Compare it with random pairs: regret of the recommended candidate after 100 labels, 256 replicates."""
    for name in ("passive", "coin_flip"):
        env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=256, horizon=100)
        agent = duelenv.agents.make(name, env, seed=0)
        observation, _ = env.reset(seed=0)
        over = False
        while not over:
            actions = agent.act(observation)
            following, labels, _, truncated, _ = env.step(actions)
            agent.update(observation, actions, labels)
            observation, over = following, truncated.all()
        regret = env.evaluate(agent)["simple_regret"]
        error = regret.std(ddof=1) / np.sqrt(len(regret))
        print(f"{name:10s} simple regret {regret.mean():.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
