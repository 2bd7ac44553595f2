# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy", "scipy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A belief of one's own in one file: a Gaussian over the utility's weights, told of wins as if they were measurements.

Cheap and coarse: a win is taken for a utility gap of +1, a loss for -1, with noise of deviation 1 (conjugate linear
regression). Run it: `python examples/my_belief.py`. Out comes the simple regret of Thompson sampling with this belief
and with the usual one, and its standard error over replicates.
"""

import gymnasium
import numpy as np
from scipy.special import ndtri

import duelenv
from duelenv.agents.parts import BELIEFS
from duelenv.ground.randomness import RowStreams


class Measured:
    """Weights ~ N(0, 1) a priori; one posterior for each replicate."""

    def __init__(self, dim, replicates, batch, seed):
        self.batch = batch
        self.precision = np.tile(np.eye(dim), (replicates, 1, 1))  # (R, d, d)
        self.moment = np.zeros((replicates, dim))  # precision times mean
        self.streams = RowStreams(seed, "beliefs/measured", replicates * batch)

    def _mean_weights(self):
        return np.linalg.solve(self.precision, self.moment[..., np.newaxis])[..., 0]  # (R, d)

    def mean(self, features):
        """Return the mean utility, [N, K]."""
        weights = self._mean_weights().repeat(self.batch, axis=0)
        return np.einsum("nkd,nd->nk", features, weights)

    def sample(self, features, num_samples):
        """Return joint draws of the utility, [S, N, K]."""
        rows, dim = len(features), features.shape[-1]
        root = np.linalg.inv(np.linalg.cholesky(self.precision))  # root' root is the covariance
        normal = ndtri(np.clip(self.streams.uniform(num_samples, dim), 1e-12, 1 - 1e-12))  # (N, S, d)
        deviation = np.einsum("nsd,nde->nse", normal, root.repeat(self.batch, axis=0))
        weights = self._mean_weights().repeat(self.batch, axis=0)[:, np.newaxis] + deviation
        return np.einsum("nkd,nsd->snk", features, weights).reshape(num_samples, rows, -1)

    def update(self, first, second, labels):
        """Learn from duels of features [N, d] with labels [N]."""
        known = ~np.isnan(labels)
        gap = np.where(known[:, np.newaxis], first.astype(np.float64) - second, 0.0)
        seen = np.where(known, 2 * np.nan_to_num(labels) - 1, 0.0)
        gap, seen = gap.reshape(len(self.moment), -1, gap.shape[-1]), seen.reshape(len(self.moment), -1)
        self.precision += np.einsum("rbd,rbe->rde", gap, gap)
        self.moment += np.einsum("rbd,rb->rd", gap, seen)
        return {"labels": float(known.sum())}

    def state_dict(self):
        """Return what the future depends on."""
        streams = self.streams.state_dict()
        return {"precision": self.precision.copy(), "moment": self.moment.copy(), "streams": streams}

    def load_state_dict(self, state):
        """Continue from `state_dict`."""
        self.precision, self.moment = np.array(state["precision"]), np.array(state["moment"])
        self.streams.load_state_dict(state["streams"])


@BELIEFS.register("measured")
def measured(view, dim, seed, settings):
    """Make the belief for an agent's world."""
    return Measured(dim, view.replicates, view.batch, seed)


def main() -> None:
    """Run Thompson sampling with this belief and with the usual one: regret after 100 labels, 256 replicates."""
    for belief in ("linear_logistic", "measured"):
        env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=256, horizon=100)
        agent = duelenv.agents.make("thompson", env, seed=0, belief=belief)
        observation, _ = env.reset(seed=0)
        over = False
        while not over:
            actions = agent.act(observation)
            following, labels, _, truncated, _ = env.step(actions)
            agent.update(observation, actions, labels)
            observation, over = following, truncated.all()
        regret = env.evaluate(agent)["simple_regret"]
        print(f"{belief:16s} simple regret {regret.mean():.3f} +- {regret.std(ddof=1) / np.sqrt(len(regret)):.3f}")


if __name__ == "__main__":
    main()
