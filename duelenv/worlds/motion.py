"""How a hidden utility or matrix moves over the rounds: slow drift and abrupt change. Not for what agents see of it.

The moving truths of non-stationary dueling bandits: Saha and Gupta 2022 (arXiv 2111.03917) measure them by the number
of changes and by total variation, Buening and Saha 2023 (arXiv 2210.14322) by how often the Condorcet winner changes.
Regret against the best candidate of each round's own truth is dynamic regret.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream
from duelenv.oracles.matrices import Matrix, condorcet_winner
from duelenv.oracles.utilities import FeatureUtility, LinearUtility, make_utility


@dataclass(frozen=True)
class Motion:
    """How the truth moves; rounds are counted from 0 at the seeded reset and go on over later episodes.

    Attributes:
        drift: Speed of the slow motion, in the world's own unit a round, not negative; 0 for none.
        changes: Rounds from which on a new truth holds, increasing and at least 1.
    """

    drift: float = 0.0
    changes: tuple[int, ...] = ()

    @classmethod
    def of(cls, drift: float, changes: object, horizon: int) -> Motion:
        """Check a user's settings.

        Args:
            drift: As above.
            changes: Rounds, or shares of the horizon in (0, 1), which become rounds: 0.5 of 1,000 is round 500.
            horizon: Rounds of an episode.

        Raises:
            UserError: A drift that is no number or negative, or rounds that are not increasing whole numbers of at
                least 1.
        """
        speed = checks.number("drift", drift, low=0.0)
        if isinstance(changes, str) or not isinstance(changes, Sequence):
            raise UserError(f"changes is {changes!r}, expected a list of rounds; give one such as [500, 1000]")
        rounds = tuple(_round(f"changes[{index}]", value, horizon) for index, value in enumerate(changes))
        if any(later <= earlier for earlier, later in pairwise(rounds)):
            raise UserError(f"changes is {list(rounds)}, expected increasing rounds; sort them and give each once")
        return cls(speed, rounds)

    def __bool__(self) -> bool:
        return self.drift != 0.0 or bool(self.changes)

    def segment(self, number: int) -> tuple[int, int]:
        """Return how many changes there were up to a round, and the rounds since the last of them."""
        if not self.changes:
            return 0, number
        segment = bisect_right(self.changes, number)
        return segment, number - (self.changes[segment - 1] if segment else 0)


def _round(name: str, value: object, horizon: int) -> int:
    """Find the round that a number means, or a share of the horizon; never round 0, where nothing would change."""
    if isinstance(value, float):
        return max(1, round(checks.number(name, value, above=0.0, below=1.0) * horizon))
    return checks.integer(name, value, low=1)


class MovingUtility:
    """The utility of every round, a function of the root and the round alone.

    Between changes, theta_t = cos(a) theta + sin(a) |theta| e with a = drift * (rounds since the last change) and e a
    random unit vector orthogonal to theta, one per replicate: its norm stays. Each change draws theta and e anew.

    Args:
        root: Root integer of the world.
        replicates: R.
        name: Utility family; see `make_utility`.
        dim: d.
        scale: See `make_utility`.
        motion: See `Motion`.

    Raises:
        UserError: `drift` for a utility without a parameter to turn, or in one dimension.
    """

    def __init__(self, root: int, replicates: int, name: str, dim: int, scale: float, motion: Motion) -> None:
        self._root = root
        self._replicates = replicates
        self._family = (name, dim, scale)
        self._motion = motion
        self._segment = 0
        self._start = self._draw("utility")
        if motion.drift and not isinstance(self._start, LinearUtility):
            raise UserError(f"drift turns the parameter of a linear utility and utility={name!r} has none; use changes")
        if motion.drift and dim == 1:
            raise UserError("drift turns the parameter, which one dimension does not allow; set dim=2 or more")
        self._across = self._direction()

    def at(self, number: int) -> FeatureUtility:
        """Return the utility of a round."""
        segment, elapsed = self._motion.segment(number)
        if segment != self._segment:
            self._segment = segment
            self._start = self._draw(f"utility/{segment}" if segment else "utility")
            self._across = self._direction()
        start = self._start
        if not self._motion.drift or not isinstance(start, LinearUtility):
            return start
        angle = self._motion.drift * elapsed
        return start.moved_to(np.cos(angle) * start.theta + np.sin(angle) * self._across)

    def _draw(self, purpose: str) -> FeatureUtility:
        name, dim, scale = self._family
        generators = [stream(self._root, purpose, replicate) for replicate in range(self._replicates)]
        return make_utility(name, generators, dim, scale)

    def _direction(self) -> NDArray[np.float64]:
        """Return |theta| e, float64 [R, d]."""
        if not self._motion.drift or not isinstance(self._start, LinearUtility):
            return np.zeros((self._replicates, self._family[1]))
        theta = self._start.theta
        norm = np.linalg.norm(theta, axis=1, keepdims=True)
        purpose = f"utility/across/{self._segment}"
        generators = [stream(self._root, purpose, replicate) for replicate in range(len(theta))]
        across = np.stack([generator.standard_normal(theta.shape[1]) for generator in generators])
        unit = theta / np.where(norm > 0.0, norm, 1.0)
        across -= (across * unit).sum(axis=1, keepdims=True) * unit
        across *= norm / np.linalg.norm(across, axis=1, keepdims=True)
        return across


@dataclass(frozen=True)
class MatrixTruth:
    """The truth of a round: P(a beats b) = 1/2 + contrast (M[roles[a], roles[b]] - 1/2) for one matrix M of several.

    Attributes:
        index: Which matrix.
        contrast: In [0, 1].
        roles: The arm of the matrix whose part each arm plays, int64 [R, K]; None where each plays its own.
    """

    index: int
    contrast: float
    roles: NDArray[np.int64] | None


class MovingMatrix:
    """The matrix of every round, a function of the root and the round alone.

    Several matrices follow one another, one for each stretch between changes. A single one moves by relabelling its
    arms, every replicate in its own way: a relabelling is uniform among those that take the Condorcet winner's place
    from it or, without a winner, give another matrix than the last. It happens

    - at every change, at once;
    - under drift, whenever all preferences have faded to 1/2. The matrix of such a round is a mixture of the relabelled
      one and of indifference, whose contrast goes from 1 to 0 and back at a steady rate, such that the preference
      furthest from 1/2 moves by `drift` a round. So total variation, the sum over rounds of the largest change of a
      preference, grows by `drift` a round (at most, where contrast turns), and every arm that beats another goes on
      doing so until the relabelling: there is a Condorcet winner throughout if the matrix has one, which other mixtures
      of relabelled matrices do not promise. Each change starts from full contrast again.

    Args:
        root: Root integer of the world.
        replicates: R.
        matrices: Checked matrices, [M, K, K].
        motion: See `Motion`; its drift is the largest change of a preference in a round.

    Raises:
        UserError: Another number of changes than several matrices have between them; drift of several matrices, or
            above 1; or a single matrix that cannot move because all arms tie.
    """

    def __init__(self, root: int, replicates: int, matrices: Matrix, motion: Motion) -> None:
        self._root = root
        self._several = len(matrices) > 1
        self._motion = motion
        if self._several and len(motion.changes) != len(matrices) - 1:
            raise UserError(
                f"matrix holds {len(matrices)} matrices and changes {len(motion.changes)} rounds, expected one less: "
                "those from which on the next matrix holds; correct one of the two"
            )
        if self._several and motion.drift:
            raise UserError(
                f"drift is {motion.drift:g} and matrix holds {len(matrices)} matrices, but drift relabels the arms of "
                "one; leave drift out, or give a single matrix"
            )
        checks.number("drift", motion.drift, low=0.0, high=1.0)
        self._matrix = matrices[0]
        self._winner = condorcet_winner(self._matrix)
        furthest = float(np.abs(self._matrix - 0.5).max())
        if motion and furthest == 0.0:
            raise UserError("matrix is 0.5 everywhere and cannot move; give one in which arms differ, or no motion")
        self._rate = motion.drift / furthest if motion.drift else 0.0
        self._start = np.tile(np.arange(len(self._matrix)), (replicates, 1))
        self._roles, self._drawn = self._start, 0
        # Relabellings up to the first round of every segment.
        self._before = [0]
        for start, end in pairwise((0, *motion.changes)):
            self._before.append(self._before[-1] + self._fades(end - 1 - start) + 1)

    def at(self, number: int) -> MatrixTruth:
        """Return the truth of a round."""
        segment, elapsed = self._motion.segment(number)
        if self._several:
            return MatrixTruth(segment, 1.0, None)
        fades = self._fades(elapsed)
        relabellings = self._before[segment] + fades
        if relabellings < self._drawn:
            self._roles, self._drawn = self._start, 0
        while self._drawn < relabellings:
            self._drawn += 1
            self._roles = np.stack([self._relabelled(row, roles) for row, roles in enumerate(self._roles)])
        # A triangular wave from 1 at no rounds to 0 where arms are relabelled; rounding must not make it negative.
        contrast = max(0.0, 1.0 - abs(self._rate * elapsed - 2.0 * fades))
        return MatrixTruth(0, contrast, self._roles if self._drawn else None)

    def _fades(self, elapsed: int) -> int:
        """Return how many times preferences faded to 1/2 in so many rounds of drift."""
        return int((self._rate * elapsed + 1.0) // 2.0)

    def _relabelled(self, replicate: int, roles: NDArray[np.int64]) -> NDArray[np.int64]:
        generator = stream(self._root, f"matrix/{self._drawn}", replicate)
        while True:
            other = generator.permutation(len(roles))
            if self._winner is None:
                moved = (self._matrix[np.ix_(other, other)] != self._matrix[np.ix_(roles, roles)]).any()
            else:
                moved = (other[roles == self._winner] != self._winner).all()
            if moved:
                return other
