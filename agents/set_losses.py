"""Losses over a prompt's responses with a number for each: for a teacher that says more than which of two is better.

rho below is log pi - log ref of a response in nats, v what the teacher says of it; a set is a row of J responses.
Anything that a prompt alone decides cancels in `Boltzmann` and `RewardDistillation`, and not in `Regression`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from duelenv.agents.losses import log_ratio
from duelenv.ground.checks import integer, number


@dataclasses.dataclass(frozen=True)
class SetLoss(ABC):
    """A loss of sets with its settings; calling it gives the loss of every set.

    Attributes:
        needs_reference: Whether it reads the reference's log-probs.
    """

    needs_reference: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Return the loss of every set.

        Args:
            log_prob: float [M, J], log pi(response | prompt) in nats, with gradient.
            reference_log_prob: float [M, J], the same under the reference; None where the loss needs none.
            values: float [M, J], what the teacher says of each response.

        Returns:
            float [M].

        Raises:
            UserError: The loss needs a reference and there is none.
        """


@dataclasses.dataclass(frozen=True)
class _Scaled(SetLoss):
    """A set loss that reads log-ratios times beta.

    Attributes:
        beta: What a nat of log-ratio is worth, above 0.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        number("beta", self.beta, above=0.0)


@dataclasses.dataclass(frozen=True)
class Regression(_Scaled):
    """Mean of (v - beta rho)^2: every response has a log-ratio of its own to reach (QRPO, arXiv 2507.08068).

    v holds its normaliser already: reward - beta log Z.
    """

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Compute (v - beta rho)^2 on average over the set, [M]."""
        return ((values - self.beta * log_ratio(log_prob, reference_log_prob)) ** 2).mean(1)


@dataclasses.dataclass(frozen=True)
class RewardDistillation(_Scaled):
    """Mean of (beta (rho_i - rho_j) - (v_i - v_j))^2 over the pairs of a set.

    Its minimiser, pi_ref exp(v / beta) / Z, is that of DPO with the labels sigma(v_i - v_j), without the logistic's
    flat ends: a gap of 20 is told from one of 10.
    """

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Compute twice the sample variance of beta rho - v over the set, which is that mean, [M]."""
        left = self.beta * log_ratio(log_prob, reference_log_prob) - values
        return 2 * left.var(dim=1, correction=1)


@dataclasses.dataclass(frozen=True)
class Boltzmann(SetLoss):
    """Cross-entropy of softmax(rho) over the set against softmax(v / tau); with two responses soft-label DPO.

    Where the log-ratios, and not the log-probs, are what is normalised over the set, it does not matter who drew the
    responses: the minimiser is pi_ref exp(v / tau) / Z whatever their distribution, as long as it has full support.

    Attributes:
        tau: Temperature of the target, above 0: what DPO calls beta.
    """

    tau: float = 0.1

    def __post_init__(self) -> None:
        number("tau", self.tau, above=0.0)

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Compute - sum_i softmax(v / tau)_i log softmax(rho)_i, [M] in nats."""
        rho = log_ratio(log_prob, reference_log_prob)
        return -(torch.softmax(values / self.tau, dim=1) * torch.log_softmax(rho, dim=1)).sum(1)


@dataclasses.dataclass(frozen=True)
class BestAndWorstOfN(SetLoss):
    """(1 - a) (rho_best - rho_worst - 1 / (2 beta_n))^2 - a log pi(best) (BoNBoN, arXiv 2406.00832).

    Of n draws of the reference, the best one's policy prefers its own best to its worst by 1 / (2 beta_n) =
    (n - 1) H_{n-1} nats on average, H the harmonic number; with that as the target no strength is left to choose. Of
    responses that anybody else drew the target means nothing. A set is (best, worst); its values are not read.

    Attributes:
        draws: n, at least 2.
        imitation: a, weight of the log-likelihood of the best, in [0, 1].
    """

    draws: int = 2
    imitation: float = 0.005

    def __post_init__(self) -> None:
        integer("draws", self.draws, low=2)
        number("imitation", self.imitation, low=0.0, high=1.0)

    @property
    def target(self) -> float:
        """(n - 1) sum_{k < n} 1 / k, in nats."""
        return (self.draws - 1) * sum(1 / k for k in range(1, self.draws))

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Compute the loss of every pair of best and worst, [M]."""
        rho = log_ratio(log_prob, reference_log_prob)
        contrast = (rho[:, 0] - rho[:, 1] - self.target) ** 2
        return (1 - self.imitation) * contrast - self.imitation * log_prob[:, 0]


@dataclasses.dataclass(frozen=True)
class PolicyGradient(SetLoss):
    """- sum_i v_i log pi(y_i): the policy climbs along the values as long as it is let (2603.17378, from excerpts)."""

    needs_reference: ClassVar[bool] = False

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, values: Tensor) -> Tensor:
        """Compute minus the weighted log-likelihood of the set, [M]."""
        return -(values * log_prob).sum(1)
