"""AdversarialDelay: an adversary holds the truth back and lets errors pass. Not for delays by chance: see `delay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.disturbances.adversary import surest, truthful
from duelenv.disturbances.delay import NEVER
from duelenv.ground import checks
from duelenv.labels.stage import Clock, Passing, Stage


class AdversarialDelay(Stage):
    """Withholds every label that tells the truth about a sure duel for D rounds; other labels come at once.

    A delay that depends on the label, the harder setting of Lancewicki et al. 2021 (arXiv 2106.02436): among the
    labels that are in, errors are over-represented, and in the first D rounds there is nothing else. The budget is the
    cumulative delay Lambda of the adversarial regime of RCDP-UCB (arXiv 2605.01752). Rule: a label is withheld if it
    names the truly likelier winner, if |P(first) - P(second)| of its duel is at least `margin`, and if the rounds by
    which labels of its replicate were withheld before it, since the last seeded reset, leave D in the budget; with
    several in one step the surest go first, and among equals the older and the lower row.

    Args:
        rounds: D, at least 1.
        budget: Lambda of each replicate in rounds, or None for no limit.
        margin: Least |P(first) - P(second)|, in [0, 1].
        deliver_rest: Whether labels still out in an episode's last round come with it; they are lost otherwise.
    """

    kind: ClassVar[str] = "adversarial_delay"
    holds: ClassVar[bool] = True

    def __init__(self, rounds: int, budget: int | None = None, margin: float = 0.0, deliver_rest: bool = False) -> None:
        self.deliver_rest = checks.flag("deliver_rest", deliver_rest)
        self.rounds = checks.integer("rounds", rounds, low=1, high=NEVER)
        self.budget = None if budget is None else checks.integer("budget", budget, low=0, high=NEVER)
        self.margin = checks.number("margin", margin, low=0.0, high=1.0)
        self.start(1, 1)

    def start(self, replicates: int, batch: int) -> None:
        self._batch = batch
        self._spent = np.zeros(replicates, np.int64)

    def due(self, passing: Passing, uniforms: NDArray[np.float64], clock: Clock) -> NDArray[np.int64]:
        chosen = truthful(passing, self.margin)
        replicate = passing.row // self._batch
        if self.budget is not None:
            chosen = surest(chosen, passing.margin, replicate, (self.budget - self._spent) // self.rounds)
        self._spent += self.rounds * np.bincount(replicate[chosen], minlength=len(self._spent))
        return np.where(chosen, clock.now + self.rounds, clock.now)

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self._spent.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._spent = np.array(state["spent"], np.int64)
