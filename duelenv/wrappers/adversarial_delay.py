"""AdversarialDelay: an adversary holds the truth back and lets errors pass. Not for delays by chance: see `delay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import DuelVectorEnv
from duelenv.ground import checks
from duelenv.late import Answers
from duelenv.wrappers.adversary import surest, truthful
from duelenv.wrappers.base import HoldingWrapper, LabelWrapper, Marks


class AdversarialDelay(HoldingWrapper):
    """Withholds every label that tells the truth about a sure duel for D rounds; other labels come at once.

    A delay that depends on the label, the harder setting of Lancewicki et al. 2021 (arXiv 2106.02436): among the
    labels that are in, errors are over-represented, and in the first D rounds there is nothing else. The budget is the
    cumulative delay Lambda of the adversarial regime of RCDP-UCB (arXiv 2605.01752). Rule: a label is withheld if it
    names the truly likelier winner, if |P(first) - P(second)| of its duel is at least `margin`, and if the rounds by
    which labels of its replicate were withheld before it, since the last seeded reset, leave D in the budget; with
    several in one step the surest go first, and among equals the older and the lower row.

    Args:
        env: See `LabelWrapper`.
        rounds: D, at least 1.
        budget: Lambda of each replicate in rounds, or None for no limit.
        margin: Least |P(first) - P(second)|, in [0, 1].
        deliver_rest: Whether labels still out in an episode's last round come with it; they are lost otherwise.
    """

    kind: ClassVar[str] = "adversarial_delay"

    def __init__(
        self,
        env: DuelVectorEnv | LabelWrapper,
        rounds: int,
        budget: int | None = None,
        margin: float = 0.0,
        deliver_rest: bool = False,
    ) -> None:
        super().__init__(env, deliver_rest)
        self.rounds = checks.integer("rounds", rounds, low=1)
        self.budget = None if budget is None else checks.integer("budget", budget, low=0)
        self.margin = checks.number("margin", margin, low=0.0, high=1.0)
        self._spent: NDArray[np.int64]

    def _mark(self, info: Mapping[str, Any]) -> Marks:
        margin: Marks = info["margin"]
        return margin

    def _due(self, answers: Answers, marks: Marks) -> NDArray[np.int64]:
        chosen = truthful(answers, marks, self.margin)
        replicate = answers.row // self._world.batch
        if self.budget is not None:
            chosen = surest(chosen, marks, replicate, (self.budget - self._spent) // self.rounds)
        self._spent += self.rounds * np.bincount(replicate[chosen], minlength=self._world.replicates)
        return np.where(chosen, self._round + self.rounds, self._round)

    def _redraw(self, root: int) -> None:
        super()._redraw(root)
        self._spent = np.zeros(self._world.replicates, np.int64)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"spent": self._spent.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        observation = super().load_state_dict(state)
        self._spent = np.array(state["spent"], np.int64)
        return observation
