"""MatrixDuel: K arms and any preference matrix, without contexts. The classical dueling bandit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from duelenv.actions import recommended_arms
from duelenv.core import SPLITS, Recommender, StageLike
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams
from duelenv.oracles.base import Preferences
from duelenv.oracles.matrices import borda_scores, condorcet_winner, load_matrix
from duelenv.regret import arm_losses, mean_loss, probability_regret
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv
from duelenv.worlds.motion import MatrixTruth, Motion, MovingMatrix


class MatrixDuelVectorEnv(DuelVectorEnv):
    """N rows of a K-armed dueling bandit.

    ## Description
    The truth is a matrix P with P[i, j] = P(i beats j) and P + P' = 1. It need not be transitive. All rows share it,
    unless it moves and every replicate relabels its arms in its own way.

    ## Action Space
    `MultiDiscrete([K, K])`, an ordered pair of arms; i == j is legal and decided by a fair coin.

    ## Observation Space
    `features`: the K x K identity, a read-only broadcast view over the rows, so that agents for features run
    here unchanged.

    ## Rewards
    The label: 1 where the first arm won, 0 where the second did.

    ## Regret
    Against the Condorcet winner, where there is one: `average`, `sum`, `strong`, `weak`. Always: `borda` and
    `copeland`, the loss in the arms' Borda and Copeland score against the best score; and `von_neumann`, the mean of
    P(w beats the arm) - 1/2 over the two, w being the von Neumann winner: the Condorcet winner where there is one, and
    otherwise a distribution over arms (of several such, the one that `von_neumann_winner` finds).

    Where the truth moves, all are against the truth of the round: dynamic regret. Of several matrices, all must have
    a Condorcet winner for regret against it to be known.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    matrix: An array [K, K], the path of a `.npy` or `.csv` file, or a generator's name, "mallows", "cyclic",
        "arithmetic", "savage_hard" or "random" (with settings, pass what `duelenv.oracles.matrices.make_matrix`
        returns); or [M, K, K] (not as `.csv`), M matrices that hold one after the other.
    changes: Rounds from which on a new truth holds, such as [500, 1000]: the next of M matrices, of which there must be
        one more than changes; or the one matrix with its arms relabelled at random, for each replicate by itself, so
        that the Condorcet winner is another arm (or, without one, the matrix another). Rounds are counted from 0 at the
        seeded reset and go on over later episodes: `reset()` leaves the truth where it is. Shares of the horizon,
        such as [0.5], do as well.
    stages: Disturbances of labels on their way to the agent, in that order; see `duelenv.disturbances`.
    budget: Labels that each replicate may ask for, see `duelenv.vector.DuelVectorEnv`.
    render_mode: "ansi" lets `render` show the last duel as text.
    drift: Largest change of a preference in a round, in [0, 1], such as 0.001, of a single matrix. All preferences fade
        to 1/2 at this speed, come back with the arms relabelled in the same way as at changes, and fade again.

    ## Version History
    v0: first version.

    Raises:
        UserError: P is not square, has K < 2, leaves [0, 1], or P + P' is not 1; or a value outside its range.

    Example:
        >>> import gymnasium, duelenv
        >>> matrix = [[0.5, 0.8], [0.2, 0.5]]
        >>> env = gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=3, matrix=matrix, horizon=10)
        >>> observation, info = env.reset(seed=0)
        >>> observation, labels, terminated, truncated, info = env.step(np.array([[0, 1], [0, 0], [1, 1]]))
        >>> info["regret"]["average"].round(2).tolist()
        [0.15, 0.0, 0.3]
    """

    world: ClassVar[str] = "duelenv/MatrixDuel-v0"
    fixed_candidates = True

    def __init__(
        self,
        matrix: ArrayLike | str,
        *,
        num_envs: int = 1,
        batch: int = 1,
        horizon: int = 1000,
        selective: bool = False,
        feedback: str = "bernoulli",
        changes: Sequence[int | float] = (),
        drift: float = 0.0,
        stages: Sequence[StageLike] | None = None,
        budget: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        given = load_matrix(matrix)
        self._matrices = given if given.ndim == 3 else given[np.newaxis]
        num_arms = given.shape[-1]
        super().__init__(
            num_envs=num_envs,
            batch=batch,
            num_candidates=num_arms,
            horizon=horizon,
            observation={"features": spaces.Box(0.0, 1.0, (num_arms, num_arms), np.float32)},
            selective=selective,
            feedback=feedback,
            stages=stages,
            budget=budget,
            render_mode=render_mode,
        )
        self._has_winner = all(condorcet_winner(one) is not None for one in self._matrices)
        self._replicate = np.arange(num_envs) // batch
        self._motion = Motion.of(drift, changes, horizon)
        MovingMatrix(0, 1, self._matrices, self._motion)  # refuses bad settings now
        self._index: int | None = None
        self._follow(MatrixTruth(0, 1.0, None))

    def _redraw(self, root: int) -> None:
        """Draw nothing: without motion the matrix is as given, and there is no context."""
        self._truth = MovingMatrix(root, self.replicates, self._matrices, self._motion)
        self._follow(self._truth.at(0))

    def _context_streams(self) -> dict[str, RowStreams]:
        return {}

    def _next_context(self) -> None:
        """Show the same arms every round."""
        if self._motion:
            self._follow(self._truth.at(self._number))

    def _follow(self, truth: MatrixTruth) -> None:
        """Make this the truth of the round."""
        self._contrast, self._roles = truth.contrast, truth.roles
        if truth.index != self._index:
            self._index = truth.index
            self._matrix = self._matrices[truth.index]
            self._losses = arm_losses(self._matrix)
            self._borda = borda_scores(self._matrix)

    def _parts(self, arms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the arms of the matrix whose part each row's arm plays, [N]."""
        return arms if self._roles is None else self._roles[self._replicate, arms]

    def _observe(self) -> dict[str, Any]:
        # One fresh identity a round, seen N times: observations must not share memory across rounds.
        identity = np.eye(self.num_candidates, dtype=np.float32)
        return {"features": np.broadcast_to(identity, (self.num_envs, *identity.shape))}

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        win = self._matrix[self._parts(first), self._parts(second)]
        if self._contrast != 1.0:
            win = 0.5 + self._contrast * (win - 0.5)
        return Preferences(win, np.zeros_like(win))

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        first, second = self._parts(first), self._parts(second)
        regret = {name: mean_loss(self._losses[name], first, second) for name in ("borda", "copeland")}
        if self._has_winner:
            gaps = self._losses["condorcet"]
            regret |= probability_regret(gaps[first], gaps[second])
            regret["von_neumann"] = regret["average"].copy()  # the Condorcet winner is the von Neumann winner
        else:
            regret["von_neumann"] = mean_loss(self._losses["von_neumann"], first, second)
        if self._contrast != 1.0:
            # Who beats whom does not fade, except at the very end.
            regret = {
                name: value * (self._contrast if name != "copeland" else float(self._contrast > 0.0))
                for name, value in regret.items()
            }
        return regret

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return, per replicate, the regret of the recommended arm and its mean win rate over a random other arm.

        There are no contexts, so both splits are the same. `simple_regret` is P(winner beats arm) - 1/2 where a
        Condorcet winner exists, and otherwise the loss in Copeland score; both by the truth of the coming round.
        """
        checks.one_of("split", split, SPLITS)
        arms = recommended_arms(agent, self._observe(), self.num_envs, self.num_candidates)
        regret = self._regret(arms, arms)
        win_rate = 0.5 + self._contrast * (self._borda[self._parts(arms)] - 0.5)
        shape = (self.replicates, self.batch)
        return {
            "simple_regret": regret["average" if self._has_winner else "copeland"].reshape(shape).mean(axis=1),
            "win_rate_best_of_n": win_rate.reshape(shape).mean(axis=1),
        }


class MatrixDuelEnv(DuelEnv):
    """The scalar form of `MatrixDuelVectorEnv`, with its arguments and sections.

    ## Action Space
    `MultiDiscrete([K, K])`.

    ## Observation Space
    `features`: the identity, float32 [K, K].

    ## Rewards
    The label, in [0, 1].

    ## Episode End
    Truncated after `horizon` rounds.
    """

    def __init__(self, matrix: ArrayLike | str, **settings: Any) -> None:
        super().__init__(MatrixDuelVectorEnv(matrix, num_envs=1, **settings))
