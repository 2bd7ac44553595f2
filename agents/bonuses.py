"""Bonus terms of the optimistic methods: added to a preference loss, they push down what one policy already says.

Not for choosing pairs: optimism of this kind sits in the loss, and only works where every duel contains a response of
the policy pushed against (the reference, or VPO's calibration policy); otherwise a wrong guess is never corrected.

All three are a coefficient c times a mean log-prob of responses y drawn by that policy, not by the one that learns.
Whether c is large or negligible depends on the loss: `gradient_ratio` says.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from duelenv.ground.checks import flag, number
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry


@dataclasses.dataclass(frozen=True)
class Bonus(ABC):
    """A bonus term with its settings; minimise it together with the loss.

    Attributes:
        needs_reference: Whether the term depends on `reference_log_prob`.
    """

    needs_reference: ClassVar[bool] = True

    @property
    @abstractmethod
    def coefficient(self) -> float:
        """The c in c E[log pi], in loss units per nat; negative for pessimism."""

    @abstractmethod
    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
        """The bonus term, a scalar.

        Args:
            log_prob: log pi(y | x) in nats with gradient, any shape; y from the policy pushed against, drawn at
                temperature 1.
            reference_log_prob: log ref(y | x), same shape; None where the term does not need it.

        Returns:
            The term; 0 with zero gradient if there are no responses.

        Raises:
            UserError: The shapes differ, or the reference is missing.
        """


@dataclasses.dataclass(frozen=True)
class SELM(Bonus):
    """alpha beta E_{y ~ ref}[log pi(y | x) - log ref(y | x)] (Zhang et al. 2024, arXiv 2405.19332).

    Attributes:
        alpha: Strength of optimism, at least 0; published 1e-4 to 1e-3.
        beta: The beta of the DPO loss it stands beside, above 0.
    """

    alpha: float = 1e-3
    beta: float = 0.1

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)
        number("beta", self.beta, above=0.0)

    @property
    def coefficient(self) -> float:
        """alpha beta."""
        return self.alpha * self.beta

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
        """alpha beta times the mean log-ratio."""
        return self.coefficient * _mean(log_prob - _same_shape(log_prob, reference_log_prob))


@dataclasses.dataclass(frozen=True)
class XPO(Bonus):
    """alpha E_{y ~ ref}[log pi(y | x)] (Xie et al. 2024, arXiv 2405.21046).

    alpha is not comparable with SELM's, which is multiplied by beta.

    Attributes:
        alpha: Strength of optimism, at least 0; the paper lets it fall as 1 / sqrt(T).
    """

    needs_reference: ClassVar[bool] = False

    alpha: float = 1e-5

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)

    @property
    def coefficient(self) -> float:
        """alpha."""
        return self.alpha

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
        """alpha times the mean log-prob; the reference enters through the responses alone."""
        return self.coefficient * _mean(log_prob)


@dataclasses.dataclass(frozen=True)
class VPO(Bonus):
    """+- alpha beta E_{y ~ cal}[log pi(y | x) - log ref(y | x)] (Cen et al. 2024, arXiv 2405.19320).

    Under the calibration E_{y ~ cal}[r] = 0 of the reward r that the policy stands for, its optimal regularised value
    is -beta E_{y ~ cal}[log pi - log ref]. Online the loss rewards a large value (optimism, +), offline a small one
    (pessimism, -). With the reference as calibration policy and online it is SELM's bonus.

    Attributes:
        alpha: Strength, at least 0.
        beta: The beta of the DPO loss it stands beside, above 0.
        online: Optimism if true, pessimism if false.
    """

    alpha: float = 1e-3
    beta: float = 0.1
    online: bool = True

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)
        number("beta", self.beta, above=0.0)
        flag("online", self.online)

    @property
    def coefficient(self) -> float:
        """alpha beta online, -alpha beta offline."""
        return self.alpha * self.beta * (1 if self.online else -1)

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
        """The signed alpha beta times the mean log-ratio of the calibration policy's responses."""
        return self.coefficient * _mean(log_prob - _same_shape(log_prob, reference_log_prob))


BONUSES: Registry[type[Bonus]] = Registry("bonus", {"selm": SELM, "xpo": XPO, "vpo": VPO})


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
    """How strongly the bonus pulls on log-probs, relative to the preference loss.

    The total pull of the bonus, sum |d bonus / d log pi(y)|, over the pull of the loss on one side of its pairs,
    sum |d loss / d log pi| / 2. Where pi = ref, DPO's pull is beta / 2, hence the ratio is 2 alpha for SELM and
    2 alpha / beta for XPO; at 0.002 no effect is to be expected.

    Args:
        of_loss: sum |d loss / d log pi| over both sides of its pairs.
        of_bonus: sum |d bonus / d log pi|.

    Returns:
        The ratio, at least 0; infinite if only the bonus pulls, NaN if neither does.
    """
    if of_loss == 0.0:
        return math.inf if of_bonus else math.nan
    return of_bonus / (of_loss / 2)


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)


def _same_shape(log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
    if reference_log_prob is None:
        raise UserError("reference_log_prob is None, expected log-probs under the reference; pass them, or use 'xpo'")
    if log_prob.shape != reference_log_prob.shape:
        raise UserError(
            f"reference_log_prob has shape {list(reference_log_prob.shape)},"
            f" expected that of log_prob, {list(log_prob.shape)}; pass the same responses to both"
        )
    return reference_log_prob
