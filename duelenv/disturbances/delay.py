"""Delay: labels come rounds later, by chance. Not for delays that somebody chooses: see `adversarial_delay`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.labels.stage import Clock, Passing, Stage

DISTRIBUTIONS = ("geometric", "poisson", "fixed")

NEVER = 2**40
"""Rounds, longer than any episode: a delay that does not fit into an integer is this long."""


class Delay(Stage):
    """Holds each label back for a random number of rounds, independent of everything.

    The stochastic delays of Joulani, Gyorgy and Szepesvari 2013 (arXiv 1306.0686): a label of round t with delay 0
    comes with round t's step, with delay k in the info of round t + k's. Under "geometric" a label that is out has the
    same chance to come in every round; "poisson" is a bell around the mean; "fixed" is always the mean.

    Args:
        mean: Mean delay in rounds, 0 or more; a whole number under "fixed".
        distribution: "geometric" on 0, 1, ..., "poisson" or "fixed".
        deliver_rest: Whether labels still out in an episode's last round come with it; they are lost otherwise.

    Raises:
        UserError: An unknown distribution, or a mean that it cannot have.

    Example:
        >>> import gymnasium, duelenv
        >>> stages = [Delay(mean=1, distribution="fixed")]
        >>> env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, horizon=8, stages=stages)
        >>> observation, info = env.reset(seed=0)
        >>> for _ in range(2):
        ...     observation, labels, _, _, info = env.step(np.array([[0, 1], [2, 3]]))
        >>> labels.tolist(), info["late"].round.tolist(), info["late"].row.tolist()
        ([nan, nan], [0, 0], [0, 1])
    """

    kind: ClassVar[str] = "delay"
    draws: ClassVar[bool] = True
    holds: ClassVar[bool] = True

    def __init__(self, mean: float, distribution: str = "geometric", deliver_rest: bool = False) -> None:
        self.deliver_rest = checks.flag("deliver_rest", deliver_rest)
        self.mean = checks.number("mean", mean, low=0.0)
        checks.one_of("distribution", distribution, DISTRIBUTIONS)
        if distribution == "fixed" and not self.mean.is_integer():
            raise UserError(f"mean is {mean!r}, but a fixed delay is a whole number of rounds; give one")
        self.distribution = distribution
        # P(delay <= k) for k from where it is 0 to where it is 1 in double precision.
        spread = 12.0 * np.sqrt(min(self.mean, NEVER)) + 40.0
        self._shortest = max(int(min(self.mean, NEVER) - spread), 0)
        self._poisson: NDArray[np.float64] = np.zeros(0)
        if distribution == "poisson" and self.mean < NEVER:
            delays = self._shortest + np.arange(2.0 * spread + 1.0)
            self._poisson = special.pdtr(delays, self.mean).astype(np.float64)

    def due(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.int64]:
        return clock.now + self._delays(uniforms)

    def _delays(self, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return delays in rounds by inverting the distribution, int64 [M], for U[0, 1)."""
        if self.mean >= NEVER:
            return np.full(len(uniforms), NEVER)
        if self.distribution == "fixed" or self.mean == 0.0:
            return np.full(len(uniforms), int(self.mean))
        if self.distribution == "poisson":
            return self._shortest + np.searchsorted(self._poisson, uniforms, side="right")
        # P(delay >= k) = q^k with q = mean / (1 + mean).
        return np.floor(np.log1p(-uniforms) / -np.log1p(1.0 / self.mean)).astype(np.int64)
