"""MatrixDuel: K arms and any preference matrix, without contexts. The classical dueling bandit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from duelenv.core import DuelEnv, DuelVectorEnv, Recommender
from duelenv.oracles.base import Preferences
from duelenv.oracles.matrices import (
    borda_scores,
    condorcet_winner,
    copeland_scores,
    load_matrix,
)
from duelenv.randomness import RowStreams
from duelenv.regret import probability_regret, score_regret


class MatrixDuelVectorEnv(DuelVectorEnv):
    """N rows of a K-armed dueling bandit.

    ## Description
    The truth is a matrix P with P[i, j] = P(i beats j) and P + P' = 1. It need not be transitive. All rows share it.

    ## Action Space
    `MultiDiscrete([K, K])`, an ordered pair of arms; i == j is legal and decided by a fair coin.

    ## Observation Space
    `features`: the K x K identity, a read-only broadcast view over the rows, so that agents for features run
    here unchanged.

    ## Rewards
    The label: 1 where the first arm won, 0 where the second did.

    ## Regret
    Against the Condorcet winner, where there is one: `average`, `sum`, `strong`, `weak`. Always: `borda` and
    `copeland`, the loss in the arms' Borda and Copeland score against the best score.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    matrix: An array [K, K] or the path of a `.npy` or `.csv` file.

    ## Version History
    v0: first version.

    Raises:
        UserError: P is not square, has K < 2, leaves [0, 1], or P + P' is not 1.

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
    ) -> None:
        self._matrix = load_matrix(matrix)
        num_arms = len(self._matrix)
        super().__init__(
            num_envs=num_envs,
            batch=batch,
            num_candidates=num_arms,
            horizon=horizon,
            observation={"features": spaces.Box(0.0, 1.0, (num_arms, num_arms), np.float32)},
            selective=selective,
            feedback=feedback,
        )
        winner = condorcet_winner(self._matrix)
        self._gaps = None if winner is None else self._matrix[winner] - 0.5
        self._borda = borda_scores(self._matrix)
        self._copeland = copeland_scores(self._matrix)

    def _redraw(self, root: int) -> None:
        """The matrix is given, and there is no context: nothing is drawn."""

    def _context_streams(self) -> dict[str, RowStreams]:
        return {}

    def _next_context(self) -> None:
        """Every round shows the same arms."""

    def _observe(self) -> dict[str, Any]:
        # One fresh identity a round, seen N times: observations must not share memory across rounds.
        identity = np.eye(self.num_candidates, dtype=np.float32)
        return {"features": np.broadcast_to(identity, (self.num_envs, *identity.shape))}

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_]
    ) -> Preferences:
        win = self._matrix[first, second]
        return Preferences(win, np.zeros_like(win))

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        regret = {
            "borda": score_regret(self._borda, first, second),
            "copeland": score_regret(self._copeland, first, second),
        }
        if self._gaps is not None:
            regret |= probability_regret(self._gaps[first], self._gaps[second])
        return regret

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return, per replicate, the regret of the recommended arm and its mean win rate over a random other arm.

        There are no contexts, so both splits are the same. `simple_regret` is P(winner beats arm) - 1/2 where a
        Condorcet winner exists, and otherwise the loss in Copeland score.
        """
        arms = np.asarray(agent.recommend(self._observe())).reshape(self.replicates, self.batch)
        loss = self._copeland.max() - self._copeland if self._gaps is None else self._gaps
        return {
            "simple_regret": loss[arms].mean(axis=1),
            "win_rate_best_of_n": self._borda[arms].mean(axis=1),
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
