"""COPO: responses of the reference that are like few that have duelled are pushed up, those like many down."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from duelenv.agents.bonuses.base import Bonus, mean, same_shape
from duelenv.ground.checks import number
from duelenv.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class COPO(Bonus):
    """-alpha E_{y ~ ref}[min(pi / ref, clip) (b(y) - mean b) log pi(y)], weights without gradient (arXiv 2501.12735).

    The policy gradient of E_{y ~ pi}[b(y)], taken on draws of the reference by importance weights. The count bonus b is
    that of `duelenv.agents.bonuses.novelty`, and its mean over the step's draws the baseline. The form is derived and
    not compared with the paper's code. What was checked: at pi = ref its gradient is -alpha times that of E_{y ~
    pi}[b], up to 1 / (draws of a step) for the baseline that a draw is part of; where all are equally new it pulls
    nowhere. It is not below 0 for rare and above for common responses like the others: its value means nothing, its
    gradient does.

    Attributes:
        alpha: Strength, at least 0.
        clip: Largest importance weight, above 0; published 5.
    """

    needs_novelty = True

    alpha: float = 1e-3
    clip: float = 5.0

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)
        number("clip", self.clip, above=0.0)

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, novelty: Tensor | None = None) -> Tensor:
        """See `Bonus`."""
        reference = same_shape(log_prob, reference_log_prob)
        if novelty is None or novelty.shape != log_prob.shape:
            found = None if novelty is None else list(novelty.shape)
            raise UserError(
                f"novelty has shape {found}, expected that of log_prob, {list(log_prob.shape)}; pass how new each "
                "response is"
            )
        weight = (log_prob.detach() - reference).exp().clamp_max(self.clip) * novelty
        return -self.alpha * mean(weight * log_prob)
