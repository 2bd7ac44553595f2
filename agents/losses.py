"""Preference losses: what a batch of labelled duels says about a policy's log-probs, as one number.

Not for computing log-probs (`duelenv.policies`), for optimiser steps (`duelenv.agents.learners`) or for the bonus terms
of the optimistic methods (`duelenv.agents.bonuses`).

Every loss says one thing: the loss of a row if its first response won. The rest is shared. A label y in [0, 1] weighs
the row against the same row the other way round, y L(first, second) + (1 - y) L(second, first), so that a tie is the
soft target 1/2 and (first, second, y) always counts exactly as (second, first, 1 - y). Label noise is a line through
the label (`target`). Rows without a label are taken out before anything is computed.

Below, h = [log pi(y+) - log pi(y-)] - [log ref(y+) - log ref(y-)] in nats, y+ the preferred response.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from duelenv.agents.registry import LOSSES
from duelenv.ground.checks import number
from duelenv.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class PreferenceBatch:
    """N labelled duels as a loss sees them; column 0 is the first response, column 1 the second.

    Attributes:
        log_prob: float [N, 2], log pi(response | prompt) in nats, summed over its tokens; with gradient.
        label: float [N] in [0, 1], the probability that the first won; NaN where there is no label.
        length: [N, 2], tokens of each response, at least 1.
        reference_log_prob: float [N, 2], the same under the frozen reference; None where no loss needs it.
        mismatched_log_ratio: float scalar, mean of log pi - log ref over responses that were given to other prompts, of
            the whole batch that this is a part of; only `kto` needs it.

    Raises:
        UserError: A shape, label or length other than described.
    """

    log_prob: Tensor
    label: Tensor
    length: Tensor
    reference_log_prob: Tensor | None = None
    mismatched_log_ratio: Tensor | None = None

    def __post_init__(self) -> None:
        if self.label.ndim != 1:
            raise UserError(f"label has shape {list(self.label.shape)}, expected [N]; pass one label per duel")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shape = {"label": (len(self),), "mismatched_log_ratio": ()}.get(field.name, (len(self), 2))
            if value is not None and value.shape != shape:
                raise UserError(
                    f"{field.name} has shape {list(value.shape)}, expected {list(shape)}; pass one row per label"
                )
        outside = self.label[(self.label < 0) | (self.label > 1)]
        if outside.numel():
            raise UserError(
                f"a label is {float(outside[0]):g}, expected the probability in [0, 1] that the"
                " first response won, or NaN for no label"
            )
        if bool((self.length < 1).any()):
            raise UserError("a response has length 0, expected at least 1 token; count its end-of-text token")

    def __len__(self) -> int:
        return self.label.shape[0]

    def counted(self) -> PreferenceBatch:
        """Keep the rows with a label.

        Taking the others out, rather than multiplying them by 0, keeps their NaNs out of every gradient.
        """
        rows = ~self.label.isnan()
        return self._checked_before(
            log_prob=self.log_prob[rows],
            label=self.label[rows],
            length=self.length[rows],
            reference_log_prob=None if self.reference_log_prob is None else self.reference_log_prob[rows],
        )

    def swapped(self) -> PreferenceBatch:
        """Return the same duels with first and second exchanged."""
        return self._checked_before(
            log_prob=self.log_prob.flip(1),
            label=1 - self.label,
            length=self.length.flip(1),
            reference_log_prob=None if self.reference_log_prob is None else self.reference_log_prob.flip(1),
        )

    def _checked_before(self, **changes: Tensor | None) -> PreferenceBatch:
        """Exchange tensors for others that are known to be right: checks wait for the device, and once is enough."""
        batch = object.__new__(PreferenceBatch)
        batch.__dict__.update(self.__dict__ | changes)
        return batch

    def log_ratio(self) -> Tensor:
        """Compute log pi - log ref of each response, [N, 2] in nats; raises `UserError` without a reference."""
        return log_ratio(self.log_prob, self.reference_log_prob)

    def difference(self) -> Tensor:
        """Compute the h of a first response that won: its log-ratio less the second's, [N] in nats."""
        ratio = self.log_ratio()
        return ratio[:, 0] - ratio[:, 1]


def log_ratio(log_prob: Tensor, reference_log_prob: Tensor | None) -> Tensor:
    """Compute log pi - log ref of responses, of any one shape, in nats.

    Raises:
        UserError: There are no reference log-probs.
    """
    if reference_log_prob is None:
        raise UserError(
            "reference_log_prob is None, expected log-probs under the frozen reference;"
            " pass them, or choose a loss without a reference such as 'simpo'"
        )
    return log_prob - reference_log_prob


@dataclasses.dataclass(frozen=True)
class PreferenceLoss(ABC):
    """A preference loss with its settings; calling it on a batch gives the mean over the rows that count.

    Attributes:
        batch_type: What it is called with.
        needs_reference: Whether the batch must hold `reference_log_prob`.
        needs_mismatched: Whether the batch must hold `mismatched_log_ratio`.
    """

    batch_type: ClassVar[type[PreferenceBatch]] = PreferenceBatch
    needs_reference: ClassVar[bool] = True
    needs_mismatched: ClassVar[bool] = False

    def __call__(self, batch: PreferenceBatch) -> Tensor:
        """Compute the mean over the rows with a label; a scalar, 0 with zero gradient if there is none."""
        losses = self.rows(batch)
        return losses.sum() / max(len(losses), 1)

    def reward(self, log_prob: Tensor, reference_log_prob: Tensor | None, length: Tensor) -> Tensor:
        """Compute the utility that a policy stands for if trained by this loss, up to a constant of each prompt.

        What is added to the logit of a preference when the policy's log-prob rises: h of the loss is a difference of
        two of these.

        Args:
            log_prob: Of any responses, any shape, in nats.
            reference_log_prob: Likewise; None where the loss needs none.
            length: Their tokens, same shape.

        Raises:
            UserError: The loss needs a reference and there is none.
        """
        return log_prob if not self.needs_reference else log_ratio(log_prob, reference_log_prob)

    def rows(self, batch: PreferenceBatch) -> Tensor:
        """Compute the loss of every row that counts, in order, [M]."""
        counted = batch.counted()
        target = self.target(counted.label.to(counted.log_prob))
        first_won, second_won = self.first_won(counted), self.first_won(counted.swapped())
        return target * first_won + (1 - target) * second_won

    def target(self, label: Tensor) -> Tensor:
        """Weigh "the first won" given the label, [N]; the label itself unless it is thought noisy."""
        return label

    @abstractmethod
    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute the loss of every row if its first response won, whatever its label, [N]."""


@dataclasses.dataclass(frozen=True)
class ScaledLoss(PreferenceLoss):
    """A loss that reads log-ratios times beta.

    Attributes:
        beta: What a nat of log-ratio is worth, above 0.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        number("beta", self.beta, above=0.0)

    def reward(self, log_prob: Tensor, reference_log_prob: Tensor | None, length: Tensor) -> Tensor:
        """Compute beta times the log-ratio."""
        return self.beta * log_ratio(log_prob, reference_log_prob)


@dataclasses.dataclass(frozen=True)
class DPO(ScaledLoss):
    """-log sigma(beta h) (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

    Attributes:
        beta: Strength of the KL penalty that the loss stands for, above 0; larger keeps closer to the reference.
    """

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute -log sigma(beta h), [N]."""
        return -logsigmoid(self.beta * batch.difference())


@dataclasses.dataclass(frozen=True)
class ConservativeDPO(DPO):
    """DPO with label smoothing: (1 - e) L(h) + e L(-h), e the noise; stops at a finite h.

    Attributes:
        noise: Share of labels thought to be flipped, in [0, 1/2).
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        number("noise", self.noise, low=0.0, below=0.5)

    def target(self, label: Tensor) -> Tensor:
        """Compute e + (1 - 2e) y, the probability of a win after noise e."""
        return self.noise + (1 - 2 * self.noise) * label


@dataclasses.dataclass(frozen=True)
class RobustDPO(DPO):
    """DPO made unbiased under label flips: [(1 - e) L(h) - e L(-h)] / (1 - 2e) (arXiv 2403.00409).

    Its mean over flips with probability e is DPO on the true labels; unlike `conservative` it can be negative.

    Attributes:
        noise: Probability e with which a label was flipped, in [0, 1/2).
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        number("noise", self.noise, low=0.0, below=0.5)

    def target(self, label: Tensor) -> Tensor:
        """Compute (y - e) / (1 - 2e), the inverse of the smoothing; outside [0, 1] for y = 0 and 1."""
        return (label - self.noise) / (1 - 2 * self.noise)


@dataclasses.dataclass(frozen=True)
class IPO(ScaledLoss):
    """(h - 1 / (2 beta))^2 on summed log-probs (Azar et al. 2023, arXiv 2310.12036, eq. 17).

    Attributes:
        beta: The paper's tau, above 0; the minimum lies at h = 1 / (2 beta) nats.
    """

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute (h - 1 / (2 beta))^2, [N] in nats squared."""
        return (batch.difference() - 1 / (2 * self.beta)) ** 2


@dataclasses.dataclass(frozen=True)
class MeanIPO(IPO):
    """IPO on length-averaged log-probs: h is in nats per token, and so is its minimum 1 / (2 beta).

    Another objective than `ipo`, whose name it often bears in code.
    """

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute (h - 1 / (2 beta))^2 with h in nats per token, [N]."""
        ratio = batch.log_ratio() / batch.length
        return (ratio[:, 0] - ratio[:, 1] - 1 / (2 * self.beta)) ** 2

    def reward(self, log_prob: Tensor, reference_log_prob: Tensor | None, length: Tensor) -> Tensor:
        """Compute beta times the log-ratio per token."""
        return super().reward(log_prob, reference_log_prob, length) / length


@dataclasses.dataclass(frozen=True)
class SLiC(ScaledLoss):
    """The hinge max(0, 1 - beta h) (SLiC-HF, arXiv 2305.10425, with a reference as in arXiv 2309.06657).

    Attributes:
        beta: Scale, above 0; rows with h >= 1 / beta have no gradient.
    """

    beta: float = 0.2

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute max(0, 1 - beta h), [N]."""
        return torch.relu(1 - self.beta * batch.difference())


@dataclasses.dataclass(frozen=True)
class SimPO(PreferenceLoss):
    """-log sigma(beta (mean log pi+ - mean log pi-) - gamma), no reference (arXiv 2405.14734, eq. 6).

    Attributes:
        beta: Scale per nat per token, above 0.
        gamma: The margin the winner must have, at least 0.
    """

    needs_reference: ClassVar[bool] = False

    beta: float = 2.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        number("beta", self.beta, above=0.0)
        number("gamma", self.gamma, low=0.0)

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute -log sigma(beta (mean log pi of first - of second) - gamma), [N]."""
        reward = self.reward(batch.log_prob, None, batch.length)
        return -logsigmoid(reward[:, 0] - reward[:, 1] - self.gamma)

    def reward(self, log_prob: Tensor, reference_log_prob: Tensor | None, length: Tensor) -> Tensor:
        """Compute beta times the mean log-prob of a token; the reference is not read."""
        return self.beta * log_prob / length


@dataclasses.dataclass(frozen=True)
class LengthDPO(DPO):
    """-log sigma(beta h + a (|y+| - |y-|)): DPO under a penalty on length (R-DPO, arXiv 2403.19159).

    A longer winner is explained by its length in part, so that it moves the policy less.

    Attributes:
        length_weight: The a of the formula, utility per token, at least 0.
    """

    length_weight: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        number("length_weight", self.length_weight, low=0.0)

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute -log sigma(beta h + a (|first| - |second|)), [N]."""
        longer = (batch.length[:, 0] - batch.length[:, 1]).to(batch.log_prob)
        return -logsigmoid(self.beta * batch.difference() + self.length_weight * longer)


@dataclasses.dataclass(frozen=True)
class KTO(ScaledLoss):
    """Kahneman-Tversky optimisation on split pairs (arXiv 2402.01306, both desirabilities 1).

    With rho = log pi - log ref of one response, the winner costs 1 - sigma(beta (rho - z0)) and the loser
    1 - sigma(beta (z0 - rho)); a row is the mean of the two. z0 = max(0, `mismatched_log_ratio`) estimates KL(pi, ref)
    and carries no gradient.

    Attributes:
        beta: Scale per nat, above 0.
    """

    needs_mismatched: ClassVar[bool] = True

    def first_won(self, batch: PreferenceBatch) -> Tensor:
        """Compute [1 - sigma(beta (rho_first - z0)) + 1 - sigma(beta (z0 - rho_second))] / 2, [N]."""
        if batch.mismatched_log_ratio is None:
            raise UserError(
                "mismatched_log_ratio is None, expected the mean log-ratio of responses to other prompts;"
                " pass them, or choose another loss than 'kto'"
            )
        ratio = batch.log_ratio()
        z0 = batch.mismatched_log_ratio.detach().clamp_min(0)
        chosen = torch.sigmoid(self.beta * (z0 - ratio[:, 0]))
        rejected = torch.sigmoid(self.beta * (ratio[:, 1] - z0))
        return (chosen + rejected) / 2


def make_loss(name: str, **settings: Any) -> PreferenceLoss:
    """Make a loss by name.

    Args:
        name: One of `LOSSES`.
        **settings: Fields of its dataclass.

    Raises:
        UserError: An unknown name or setting, or a value out of range.

    Example:
        >>> make_loss("dpo", beta=0.05)
        DPO(beta=0.05)
    """
    loss: PreferenceLoss = LOSSES.make(name, settings)
    return loss
