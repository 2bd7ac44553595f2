"""How a hidden utility moves over the rounds: slow rotation and abrupt change. Not for what the agent sees of it.

The moving truths of non-stationary dueling bandits: Saha and Gupta 2022 (arXiv 2111.03917) measure them by the number
of changes and by total variation. Regret against the best candidate of each round's own truth is dynamic regret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from duelenv.oracles import checks
from duelenv.oracles.errors import UserError
from duelenv.oracles.utilities import FeatureUtility, LinearUtility, make_utility
from duelenv.randomness import stream


@dataclass(frozen=True)
class Motion:
    """How the truth moves; rounds are counted from 0 at the seeded reset and go on over later episodes.

    Attributes:
        drift: Angle in radians by which theta turns every round.
        changes: Rounds from which on a newly drawn truth holds, increasing and at least 1.
    """

    drift: float = 0.0
    changes: tuple[int, ...] = ()

    @classmethod
    def of(cls, drift: float, changes: object) -> Motion:
        """Check a user's settings.

        Raises:
            UserError: An angle that is no number, or rounds that are not increasing whole numbers of at least 1.
        """
        angle = checks.number("drift", drift)
        if isinstance(changes, str) or not isinstance(changes, Sequence):
            raise UserError(f"changes is {changes!r}, expected a list of rounds; give one such as [500, 1000]")
        rounds = tuple(checks.integer(f"changes[{index}]", value, low=1) for index, value in enumerate(changes))
        if any(later <= earlier for earlier, later in pairwise(rounds)):
            raise UserError(f"changes is {list(rounds)}, expected increasing rounds; sort them and give each once")
        return cls(angle, rounds)

    def __bool__(self) -> bool:
        return self.drift != 0.0 or bool(self.changes)


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
        changes = self._motion.changes
        segment = int(np.searchsorted(changes, number, side="right")) if changes else 0
        if segment != self._segment:
            self._segment = segment
            self._start = self._draw(f"utility/{segment}" if segment else "utility")
            self._across = self._direction()
        start = self._start
        if not self._motion.drift or not isinstance(start, LinearUtility):
            return start
        angle = self._motion.drift * (number - (changes[segment - 1] if segment else 0))
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
