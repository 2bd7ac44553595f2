"""What a policy is trained to minimise on labelled pairs, by name; no policy and no optimiser here. Loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from duelenv.agents.bonuses import Bonus, make_bonus
from duelenv.agents.losses import PreferenceLoss, make_loss
from duelenv.agents.registry import BONUSES, LOSSES
from duelenv.ground import checks
from duelenv.ground.errors import UserError


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is minimised.

    Attributes:
        loss: Name of a preference loss, one of `duelenv.agents.losses.LOSSES`.
        beta: The loss's beta, for DPO the strength of the implied KL penalty; None takes the loss's own default.
        loss_settings: Further settings of the loss by name.
        bonus: Name of an optimist's term beside the loss, one of `duelenv.agents.bonuses.BONUSES`; None for none.
        bonus_settings: Its settings by name; its beta is the loss's.
        bonus_draws: Draws of the reference beside each duel that it is a mean over; None for all candidates of the
            reference. Its expectation is the same for any number, see `duelenv.agents.reference_draws`.
    """

    loss: str = "dpo"
    beta: float | None = None
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    bonus: str | None = None
    bonus_settings: Mapping[str, Any] = field(default_factory=dict)
    bonus_draws: int | None = 1

    def __post_init__(self) -> None:
        for name in ("loss_settings", "bonus_settings"):
            checks.mapping(name, getattr(self, name))
        if self.bonus_draws is not None:
            checks.integer("bonus_draws", self.bonus_draws, low=1)
        if self.bonus is None and self.bonus_draws != type(self).bonus_draws:
            raise UserError(f"bonus_draws is {self.bonus_draws!r} without a bonus; name one, or leave it out")
        if self.bonus is None and self.bonus_settings:
            raise UserError(
                f"bonus_settings is {dict(self.bonus_settings)!r} without a bonus; name one, or leave it out"
            )

    def make_loss(self) -> PreferenceLoss:
        """Make the loss.

        Raises:
            UserError: An unknown name or setting, a value out of range, or a beta that the loss does not have.
        """
        settings = dict(self.loss_settings)
        if self.beta is None:
            return make_loss(self.loss, **settings)
        if "beta" in settings:
            raise UserError(f"beta is {self.beta!r}, and loss_settings has {settings['beta']!r} too; give one of them")
        if not _has_beta(LOSSES[self.loss]):
            raise UserError(f"beta is {self.beta!r}, and loss {self.loss!r} has none; leave it out")
        return make_loss(self.loss, beta=self.beta, **settings)

    def make_bonus(self, loss: PreferenceLoss) -> Bonus | None:
        """Make the bonus that stands beside a loss; None for none.

        Raises:
            UserError: An unknown name or setting, a value out of range, or a bonus without a beta to share.
        """
        if self.bonus is None:
            return None
        settings = dict(self.bonus_settings)
        if _has_beta(BONUSES[self.bonus]) and "beta" not in settings:
            if not hasattr(loss, "beta"):
                raise UserError(
                    f"bonus {self.bonus!r} needs a beta, and loss {self.loss!r} has none to share; give "
                    "bonus_settings={'beta': ...}"
                )
            settings["beta"] = loss.beta
        return make_bonus(self.bonus, **settings)


def _has_beta(kind: type) -> bool:
    return "beta" in getattr(kind, "__dataclass_fields__", {})
