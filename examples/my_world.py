# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A world of one's own in one file: everybody has an ideal point, and prefers what lies nearer to it (Coombs 1950).

A world says how a context comes about, what is shown of it, who wins a duel and how much it is regretted; rounds,
labels, budgets, late answers, states and the scalar form are the base class's. Run it: `python examples/my_world.py`.
Out come the cumulative and the simple regret of three agents in it; the belief of two of them is linear in the
features, which is enough.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

import duelenv
from duelenv.actions import recommended_arms
from duelenv.ground.randomness import RowStreams
from duelenv.oracles.base import Preferences
from duelenv.oracles.links import logistic
from duelenv.regret import duel_regret


@duelenv.register_world("examples/IdealPoints-v0")
class IdealPoints(duelenv.DuelVectorEnv):
    """N rows of K places (x, y) in a square, shown as (x, y, x^2 + y^2); u = -steepness |place - ideal point|^2."""

    world = "examples/IdealPoints-v0"

    def __init__(self, *, num_envs=1, batch=1, num_candidates=8, steepness=3.0, horizon=100, stages=None):
        sizes = {"num_envs": num_envs, "batch": batch, "num_candidates": num_candidates, "horizon": horizon}
        shown = {"features": spaces.Box(-1.0, 2.0, (num_candidates, 3), np.float32)}
        super().__init__(**sizes, observation=shown, stages=stages)
        self._steepness = steepness

    def _redraw(self, root):
        ideal = 2 * RowStreams(root, "ideal", self.replicates).uniform(1, 2) - 1
        self._ideal = ideal.repeat(self.batch, axis=0)  # (N, 1, 2): rows of a replicate share it
        self._streams = RowStreams(root, "context", self.num_envs)

    def _context_streams(self):
        return {"context": self._streams}

    def _next_context(self):
        self._features, self._utilities = self._draw(self._streams)

    def _draw(self, streams):
        places = 2 * streams.uniform(self.num_candidates, 2) - 1
        features = np.concatenate([places, (places**2).sum(axis=2, keepdims=True)], axis=2)
        return features.astype(np.float32), -self._steepness * ((places - self._ideal) ** 2).sum(axis=2)

    def _observe(self):
        return {"features": self._features}

    def _preferences(self, first, second, asked):
        win = logistic(chosen(self._utilities, first) - chosen(self._utilities, second))
        return Preferences(win, np.zeros_like(win))  # without ties

    def _regret(self, first, second):
        utilities = self._utilities
        return duel_regret(logistic, utilities.max(axis=1), chosen(utilities, first), chosen(utilities, second))

    def evaluate(self, agent, split="test"):
        features, utilities = self._draw(RowStreams(self.root, f"evaluate/{split}", self.num_envs))
        arms = recommended_arms(agent, {"features": features}, self.num_envs, self.num_candidates)
        regret = utilities.max(axis=1) - chosen(utilities, arms)
        return {"simple_regret": regret.reshape(self.replicates, self.batch).mean(axis=1)}


def chosen(values, arms):
    """Return the values [N, K] of arms [N]."""
    return np.take_along_axis(values, arms[:, np.newaxis], axis=1)[:, 0]


def main() -> None:
    """Play 100 rounds in 128 replicates."""
    for name in ("passive", "thompson", "maxinp"):
        env = gymnasium.make_vec(IdealPoints.world, num_envs=128)
        agent = duelenv.agents.make(name, env, seed=0)
        observation, _ = env.reset(seed=0)
        over, regret = False, 0.0
        while not over:
            actions = agent.act(observation)
            following, labels, _, truncated, info = env.step(actions)
            agent.update(observation, actions, labels)
            observation, over, regret = following, truncated.all(), regret + info["regret"]["average"].mean()
        print(f"{name:10s} regret {regret:5.2f}, simple regret {env.evaluate(agent)['simple_regret'].mean():.3f}")


if __name__ == "__main__":
    main()
