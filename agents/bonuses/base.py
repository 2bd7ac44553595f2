"""What a bonus is, and how strong one is beside a loss; no method is here."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from duelenv.agents.registry import BONUSES
from duelenv.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bonus(ABC):
    """A bonus term with its settings; minimise it together with the loss.

    Attributes:
        needs_reference: Whether the term depends on `reference_log_prob`.
        needs_novelty: Whether it depends on `novelty`.
    """

    needs_reference: ClassVar[bool] = True
    needs_novelty: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, novelty: Tensor | None = None) -> Tensor:
        """Compute the bonus term, a scalar.

        Args:
            log_prob: log pi(y | x) in nats with gradient, any shape; y from the policy pushed against, drawn at
                temperature 1.
            reference_log_prob: log ref(y | x), same shape; None where the term does not need it.
            novelty: How much newer y is than the draws of its step are on average, same shape, see
                `duelenv.agents.bonuses.novelty`; None where the term does not need it.

        Returns:
            The term; 0 with zero gradient if there are no responses.

        Raises:
            UserError: The shapes differ, or something that is needed is missing.
        """


def make_bonus(name: str, **settings: Any) -> Bonus:
    """Make a bonus by name.

    Args:
        name: One of `BONUSES`.
        **settings: Fields of its dataclass.

    Raises:
        UserError: An unknown name or setting, or a value out of range.

    Example:
        >>> make_bonus("selm", alpha=0.5).coefficient
        0.05
    """
    bonus: Bonus = BONUSES.make(name, settings)
    return bonus


def gradient_ratio(of_loss: float, of_bonus: float) -> float:
    """Measure how strongly the bonus pulls on log-probs, relative to the preference loss.

    The total pull of the bonus, sum |d bonus / d log pi(y)|, over the pull of the loss on one side of its pairs,
    sum |d loss / d log pi| / 2. Where pi = ref, DPO's pull is beta / 2, hence the ratio is 2 alpha for SELM,
    2 alpha / beta for XPO and alpha / (2 beta) for SE-POPO; at 0.002 no effect is to be expected.

    Args:
        of_loss: sum |d loss / d log pi| over both sides of its pairs.
        of_bonus: sum |d bonus / d log pi|.

    Returns:
        The ratio, at least 0; infinite if only the bonus pulls, NaN if neither does.
    """
    if of_loss == 0.0:
        return math.inf if of_bonus else math.nan
    return of_bonus / (of_loss / 2)


def mean(values: Tensor) -> Tensor:
    """Return the mean of all values, 0 with zero gradient where there are none."""
    return values.sum() / max(values.numel(), 1)


def same_shape(log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
    """Return log-probs under the reference, which are those of the same responses.

    Raises:
        UserError: They are missing, or of another shape, which would be broadcast.
    """
    if reference_log_prob is None:
        raise UserError("reference_log_prob is None, expected log-probs under the reference; pass them, or use 'xpo'")
    if log_prob.shape != reference_log_prob.shape:
        raise UserError(
            f"reference_log_prob has shape {list(reference_log_prob.shape)},"
            f" expected that of log_prob, {list(log_prob.shape)}; pass the same responses to both"
        )
    return reference_log_prob
