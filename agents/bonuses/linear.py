"""Bonuses that are a coefficient times the mean log-prob of the reference's responses: SELM, XPO, VPO."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from duelenv.agents.bonuses.base import Bonus, mean, same_shape
from duelenv.ground.checks import flag, number


@dataclasses.dataclass(frozen=True)
class LinearBonus(Bonus):
    """c E_{y ~ ref}[log pi(y | x) - log ref(y | x)], or c E_{y ~ ref}[log pi(y | x)] where no reference is needed."""

    @property
    @abstractmethod
    def coefficient(self) -> float:
        """The c, in loss units per nat; negative for pessimism."""

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, novelty: Tensor | None = None) -> Tensor:
        """See `Bonus`."""
        if self.needs_reference:
            log_prob = log_prob - same_shape(log_prob, reference_log_prob)
        return self.coefficient * mean(log_prob)


@dataclasses.dataclass(frozen=True)
class SELM(LinearBonus):
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


@dataclasses.dataclass(frozen=True)
class XPO(LinearBonus):
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


@dataclasses.dataclass(frozen=True)
class VPO(LinearBonus):
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
