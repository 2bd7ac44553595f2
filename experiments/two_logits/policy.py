"""A policy over two responses, a and b, one for every replicate: the log-odds of b."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

Array = NDArray[np.float64]


def log_probs(log_odds: Array) -> Array:
    """Return the log-probs of a and b [..., 2] in nats, of log-odds of b [...]."""
    return np.stack([log_expit(-log_odds), log_expit(log_odds)], axis=-1)


class TwoLogits:
    """The live policies of R replicates, which start as their reference.

    Args:
        replicates: R.
        reference_log_odds: log ref(b) / ref(a).

    Attributes:
        reference_log_odds: As given.
        log_odds: log pi(b) / pi(a), float64 [R]; whoever learns sets them.
    """

    def __init__(self, replicates: int, reference_log_odds: float) -> None:
        self.reference_log_odds = reference_log_odds
        self.log_odds: Array = np.full(replicates, reference_log_odds)

    @property
    def log_prob(self) -> Array:
        """Of a and b under each policy, [R, 2] in nats."""
        return log_probs(self.log_odds)

    @property
    def reference_log_prob(self) -> Array:
        """Of a and b under the reference, [2] in nats."""
        return log_probs(np.asarray(self.reference_log_odds))
