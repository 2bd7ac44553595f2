"""FeatureDuel: candidates with features and a hidden utility of them. The contextual dueling bandit of the theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.actions import recommended_arms
from duelenv.calibration import BeliefCheck
from duelenv.core import SPLITS, Recommender, StageLike
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.oracles.base import Preferences
from duelenv.oracles.links import link as link_named
from duelenv.regret import duel_regret
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv
from duelenv.worlds.motion import Motion, MovingUtility

CANDIDATES = ("gaussian", "hypercube", "sphere", "uniform", "corners")

_CORNER_NOISE = 0.1
_EVALUATION_ROUNDS = 64
#: Of these, the ones in which an agent's belief is held against the truth.
_BELIEF_ROUNDS = 2


class FeatureDuelVectorEnv(DuelVectorEnv):
    """N rows of a contextual dueling bandit over features.

    ## Description
    Each round shows K candidates with features x in R^d. A hidden utility u, one per replicate, decides a duel:
    P(i beats j) = link(u(x_i) - u(x_j)).

    ## Action Space
    `MultiDiscrete([K, K])`, an ordered pair of candidates; i == j is legal.

    ## Observation Space
    `features`: float32 [K, d].

    ## Rewards
    The label: 1 where the first candidate was preferred, 0 where the second was.

    ## Regret
    Against the best of the round's candidates, which no agent influences: `average`, `sum`, `strong`, `weak` in
    probability, and `utility`. Where the truth moves, the best under the truth of the round: dynamic regret.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    num_envs: Rows N, a multiple of `batch`.
    batch: Rows that share one utility and one learner.
    num_candidates: K, candidates a round, at least 2.
    dim: d, features of a candidate, at least 1.
    utility: The family that u is drawn from, one per replicate; s stands for `scale`. "linear", theta . x with theta
        uniform on the sphere of radius s; "linear_gaussian", with theta ~ N(0, s^2 I); "linear_sparse", with |theta| =
        s and two coordinates that are not 0; "cosine", s cos(3 theta . x) with |theta| = 1; "mlp", a random network of
        standard deviation s over N(0, I); "gp", a draw from a Gaussian process of standard deviation s; "ackley", s
        times the Ackley function turned over. See `duelenv.oracles.utilities`.
    scale: Size s of the utility, at least 0, in the unit of the link's argument: nats of log-odds for "logistic",
        standard deviations of the noise in a comparison for "probit".
    link: P(i beats j) as a function of u(x_i) - u(x_j): "logistic", "probit" or "cloglog".
    candidates: "gaussian", N(0, I); "hypercube", uniform on {-1, 1}^d / sqrt(d); "sphere", uniform of norm 1;
        "uniform", U[-1, 1]^d; "corners", all K = 2^d of {-1, 1}^d in random order, every coordinate moved by
        U[-0.1, 0].
    feature_scale: Factor on the candidates' features, positive, without a unit.
    fixed: Draw the K candidates once for each replicate instead of fresh ones every round.
    drift: Angle in radians, at least 0, by which theta turns every round, in a random plane; for "cosine" and the
        linear utilities, in two dimensions or more.
    changes: Rounds from which on a newly drawn utility holds, such as [500, 1000]. Rounds are counted from 0 at the
        seeded reset and go on over later episodes: `reset()` leaves the truth where it is. Shares of the horizon,
        such as [0.5], do as well.
    horizon: Rounds of an episode.
    selective: Give the action a third entry, 1 to ask for the label and 0 not to.
    feedback: "bernoulli", labels drawn with the preference's probability; "argmax", always the likelier one.
    stages: Disturbances of labels on their way to the agent, in that order; see `duelenv.disturbances`.
    budget: Labels that each replicate may ask for, see `duelenv.vector.DuelVectorEnv`.
    render_mode: "ansi" lets `render` show the last duel as text.

    ## Version History
    v0: first version.

    Raises:
        UserError: A value outside its range, an unknown choice, or drift of a utility without theta.

    Example:
        >>> import gymnasium, duelenv
        >>> env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=4, num_candidates=5, dim=3, horizon=8)
        >>> observation, info = env.reset(seed=0)
        >>> observation["features"].shape
        (4, 5, 3)
    """

    world: ClassVar[str] = "duelenv/FeatureDuel-v0"

    def __init__(
        self,
        *,
        num_envs: int = 1,
        batch: int = 1,
        num_candidates: int = 10,
        dim: int = 10,
        utility: str = "linear",
        scale: float = 2.0,
        link: str = "logistic",
        candidates: str = "gaussian",
        feature_scale: float = 1.0,
        fixed: bool = False,
        drift: float = 0.0,
        changes: Sequence[int | float] = (),
        horizon: int = 1000,
        selective: bool = False,
        feedback: str = "bernoulli",
        stages: Sequence[StageLike] | None = None,
        budget: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.integer("dim", dim, low=1)
        checks.integer("num_candidates", num_candidates, low=2)
        checks.one_of("candidates", candidates, CANDIDATES)
        if candidates == "corners" and num_candidates != 2**dim:
            raise UserError(
                f"num_candidates={num_candidates}, but candidates='corners' with dim={dim} are {2**dim}; set that"
            )
        checks.number("feature_scale", feature_scale, above=0.0)
        side = {"gaussian": np.inf, "corners": 1.0 + _CORNER_NOISE}.get(candidates, 1.0)
        bound = float(np.float32(side) * np.float32(feature_scale))
        super().__init__(
            num_envs=num_envs,
            batch=batch,
            num_candidates=num_candidates,
            horizon=horizon,
            observation={"features": spaces.Box(-bound, bound, (num_candidates, dim), np.float32)},
            selective=selective,
            feedback=feedback,
            stages=stages,
            budget=budget,
            render_mode=render_mode,
        )
        self.dim = dim
        self._link = link_named(link)
        self._candidates = candidates
        self._feature_scale = np.float32(feature_scale)
        self.fixed_candidates = checks.flag("fixed", fixed)
        self._utility_settings = (utility, dim, scale)
        self._rows = np.arange(num_envs)
        self._motion = Motion.of(drift, changes, horizon)
        MovingUtility(0, 1, utility, dim, scale, self._motion)  # refuses bad settings now
        self._contexts: RowStreams

    def _redraw(self, root: int) -> None:
        self._truth = MovingUtility(root, self.replicates, *self._utility_settings, self._motion)
        self._utility = self._truth.at(0)
        self._contexts = RowStreams(root, "context", self.num_envs)
        if self.fixed_candidates:
            arms = self._draw_candidates(RowStreams(root, "arms", self.replicates))
            self._set_features(np.repeat(arms, self.batch, axis=0))

    def _context_streams(self) -> dict[str, RowStreams]:
        return {} if self.fixed_candidates else {"context": self._contexts}

    def _next_context(self) -> None:
        if self._motion:
            self._utility = self._truth.at(self._number)
        if not self.fixed_candidates:
            self._set_features(self._draw_candidates(self._contexts))
        elif self._motion:
            self._set_features(self._features)

    def _draw_candidates(self, streams: RowStreams) -> NDArray[np.float32]:
        features = self._unit_candidates(streams)
        return features if self._feature_scale == 1 else features * self._feature_scale

    def _unit_candidates(self, streams: RowStreams) -> NDArray[np.float32]:
        shape = (self.num_candidates, self.dim)
        if self._candidates == "hypercube":
            side = np.float32(1.0 / np.sqrt(self.dim))
            return np.where(streams.uniform(*shape, dtype=np.float32) < 0.5, -side, side)
        if self._candidates == "uniform":
            cube: NDArray[np.float32] = streams.uniform(*shape, dtype=np.float32)
            return np.float32(2.0) * cube - np.float32(1.0)
        if self._candidates == "corners":
            order = streams.uniform(self.num_candidates).argsort(axis=1)  # (N, 2^d)
            corners = 2 * (order[:, :, np.newaxis] >> np.arange(self.dim) & 1) - 1
            noise: NDArray[np.float32] = streams.uniform(*shape, dtype=np.float32)
            return corners.astype(np.float32) - np.float32(_CORNER_NOISE) * noise
        features: NDArray[np.float32] = streams.normal(*shape, dtype=np.float32)
        if self._candidates == "sphere":
            features = features / np.linalg.norm(features, axis=-1, keepdims=True)
            features = np.clip(features, -1.0, 1.0)  # rounding must not leave the declared space
        return features

    def _set_features(self, features: NDArray[np.float32]) -> None:
        self._features = features
        self._utilities = self._utilities_of(features)

    def _utilities_of(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return u of features [N, K, d] as float64 [N, K]."""
        by_replicate = features.reshape(self.replicates, self.batch, *features.shape[1:])
        return self._utility(by_replicate).reshape(features.shape[:2]).astype(np.float64)

    def _observe(self) -> dict[str, Any]:
        # Fresh features are a round's own; fixed ones are copied, because callers keep observations.
        return {"features": self._features.copy() if self.fixed_candidates else self._features}

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        utilities = self._utilities
        margin = utilities[self._rows, first] - utilities[self._rows, second]
        win = np.asarray(self._link(margin), np.float64)
        return Preferences(win, np.zeros_like(win))

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        utilities = self._utilities
        best = utilities.max(axis=1)
        return duel_regret(self._link, best, utilities[self._rows, first], utilities[self._rows, second])

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return, per replicate over 64 fresh contexts a row, how good the recommended candidate is.

        `simple_regret` is in utility; `win_rate_best_of_n` is its mean win probability against a random candidate of
        its set. Of an agent with a belief also `belief_calibration` and `belief_log_loss` on the first two of them, see
        `duelenv.calibration`. Contexts are drawn afresh from one distribution, so "train" differs from "test" only in
        the draws.
        """
        checks.one_of("split", split, SPLITS)
        streams = RowStreams(self.root, f"evaluate/{split}", self.num_envs)
        regret = np.zeros(self.num_envs)
        win_rate = np.zeros(self.num_envs)
        belief = BeliefCheck(agent, self._link, self.replicates)
        for number in range(_EVALUATION_ROUNDS):
            features = self._features if self.fixed_candidates else self._draw_candidates(streams)
            utilities = self._utilities_of(features)
            arms = recommended_arms(agent, {"features": features}, self.num_envs, self.num_candidates)
            chosen = utilities[self._rows, arms]
            regret += utilities.max(axis=1) - chosen
            win_rate += self._link(chosen[:, np.newaxis] - utilities).mean(axis=1)
            if number < (1 if self.fixed_candidates else _BELIEF_ROUNDS):
                belief.add({"features": features}, utilities)
        shape = (self.replicates, self.batch)
        return {
            "simple_regret": regret.reshape(shape).mean(axis=1) / _EVALUATION_ROUNDS,
            "win_rate_best_of_n": win_rate.reshape(shape).mean(axis=1) / _EVALUATION_ROUNDS,
            **belief.metrics(),
        }


class FeatureDuelEnv(DuelEnv):
    """The scalar form of `FeatureDuelVectorEnv`, with its arguments and sections.

    ## Action Space
    `MultiDiscrete([K, K])`.

    ## Observation Space
    `features`: float32 [K, d].

    ## Rewards
    The label, in [0, 1].

    ## Episode End
    Truncated after `horizon` rounds.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(FeatureDuelVectorEnv(num_envs=1, **settings))
