"""Bonus terms of the optimistic methods: added to a preference loss, they push down what one policy already says.

Not for choosing pairs: optimism of this kind sits in the loss, and only works where every duel contains a response of
the policy pushed against (the reference, or VPO's calibration policy); otherwise a wrong guess is never corrected.

All are means over responses y drawn by that policy, not by the one that learns. Whether a strength is large or
negligible depends on the loss: `gradient_ratio` says. `linear` has a coefficient times the mean log-prob, `bounded`
what fades as a response becomes improbable, `counting` what asks how often something like a response has duelled.
"""

from duelenv.agents.bonuses.base import Bonus, gradient_ratio, make_bonus
from duelenv.agents.registry import BONUSES

__all__ = ["BONUSES", "Bonus", "gradient_ratio", "make_bonus"]
