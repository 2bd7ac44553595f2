# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "stable-baselines3"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A policy of Stable-Baselines3 in a duel world: PPO by self-play, on labels alone, beside a dueling bandit.

One policy names one candidate; two of its draws duel, and the label rewards one and punishes the other. The network
treats candidates alike, and gamma is 0, since rounds are unrelated. Run it: `python examples/sb3_policy.py`. Out
comes the simple regret after equal numbers of labels: a network that knows nothing of Bradley-Terry needs many times
more of them.
"""

import argparse

import gymnasium
from stable_baselines3 import PPO

import duelenv
from duelenv.agents.sb3 import EquivariantPolicy, SB3Agent, SelfPlayVecEnv


def world(rows, batch, horizon):
    """Make a world with one hidden utility for each replicate of `batch` rows."""
    settings = {"num_candidates": 5, "dim": 4, "horizon": horizon}
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=rows, batch=batch, **settings)
    return env, env.reset(seed=0)[0]


def bandit(labels):
    """Return the simple regret of Thompson sampling after so many labels, 16 a round."""
    env, observation = world(16, 16, labels // 16)
    agent = duelenv.agents.make("thompson", env, seed=0)
    over = False
    while not over:
        actions = agent.act(observation)
        following, won, _, truncated, _ = env.step(actions)
        agent.update(observation, actions, won)
        observation, over = following, truncated.all()
    return env.evaluate(agent)["simple_regret"][0]


def main(words=None) -> None:
    """Train PPO on the same world's labels, and ask both what they would recommend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[384, 3_200])
    arguments = parser.parse_args(words)
    env, _ = world(16, 16, max(arguments.labels) // 16)
    model = PPO(
        EquivariantPolicy, SelfPlayVecEnv(env), gamma=0.0, n_steps=8, batch_size=256, learning_rate=3e-3, seed=0
    )
    player = SB3Agent(model, env.unwrapped.view())
    trained = 0
    for labels in arguments.labels:
        model.learn(2 * (labels - trained), reset_num_timesteps=False)  # a duel is two transitions
        trained = model.num_timesteps // 2
        regret = env.unwrapped.evaluate(player)["simple_regret"][0]
        print(f"{trained:6,} labels: PPO {regret:.3f}, thompson {bandit(labels):.3f}", flush=True)


if __name__ == "__main__":
    main()
