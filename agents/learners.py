"""Moves a policy model by preference labels: one optimiser, one preference loss, and the optimists' bonus.

The learner knows nothing of how pairs were chosen. It trains on the tokens that were shown, never on text tokenised
again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duelenv.agents.base import Duels, Metrics
from duelenv.agents.bonuses import Bonus, gradient_ratio
from duelenv.agents.losses import PreferenceBatch, make_loss
from duelenv.core import Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.policies.causal_lm import CausalLMPolicy

_LARGE_MODEL = 50_000_000
_LARGE_RATE = 1e-4

REFERENCES = ("fixed", "moving")


@dataclass(frozen=True)
class LearnerSettings:
    """How the policy is trained.

    Attributes:
        loss: Name of a preference loss, one of `duelenv.agents.losses.LOSSES`.
        beta: The loss's beta: for DPO the strength of the implied KL penalty. The bonus and the implicit reward use it.
        loss_settings: Further settings of the loss by name.
        learning_rate: Of AdamW. The default suits small models; full fine-tuning of 1 to 8 billion parameters is
            published with 5e-7 to 5e-6, and a large rate on a large model draws a warning.
        weight_decay: Of AdamW.
        gradient_steps: Optimiser steps per update, all on the round's pairs.
        max_grad_norm: Gradients are clipped to this norm.
        micro_batch: Pairs in one forward pass; gradients add up to those of the whole batch. None takes all at once.
        reference: "fixed" keeps the start model as the reference; "moving" copies the policy into it.
        reference_every: Updates between two copies when the reference moves.
    """

    loss: str = "dpo"
    beta: float = 0.1
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    gradient_steps: int = 1
    max_grad_norm: float = 1.0
    micro_batch: int | None = None
    reference: str = "fixed"
    reference_every: int = 20

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, low=0.0)
        checks.number("learning_rate", self.learning_rate, low=0.0)
        checks.number("weight_decay", self.weight_decay, low=0.0)
        checks.number("max_grad_norm", self.max_grad_norm, low=0.0)
        checks.integer("gradient_steps", self.gradient_steps, low=1)
        checks.integer("reference_every", self.reference_every, low=1)
        if self.micro_batch is not None:
            checks.integer("micro_batch", self.micro_batch, low=1)
        checks.one_of("reference", self.reference, REFERENCES)
        if self.reference == "fixed" and self.reference_every != type(self).reference_every:
            raise UserError(
                f"reference_every={self.reference_every} is read only with reference='moving'; set that or leave it out"
            )


class PreferenceLearner:
    """Trains a policy on labelled pairs of a round.

    Args:
        policy: The live policy; its weights change in `update`.
        settings: How.
        bonus: A term added to the loss, for the optimistic family.
        bonus_source: Number of the candidate source whose responses the bonus pushes against.

    Attributes:
        gradient_steps: Optimiser steps taken so far.
    """

    def __init__(
        self,
        policy: CausalLMPolicy,
        settings: LearnerSettings,
        bonus: Bonus | None = None,
        bonus_source: int | None = None,
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.gradient_steps = 0
        self._updates = 0
        self._bonus = bonus
        self._bonus_source = bonus_source
        _warn_of_large_steps(policy, settings.learning_rate)
        self._loss = make_loss(settings.loss, beta=settings.beta, **settings.loss_settings)
        self._optimizer = torch.optim.AdamW(
            policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def update(self, observation: Observation, duels: Duels) -> Metrics:
        """Take `gradient_steps` steps on the duels that have a label; none where there is none.

        Args:
            observation: A round of AlignmentDuel.
            duels: Duels between its candidates.

        Returns:
            `loss`, `gradient_norm` and, with a bonus, `bonus` and `bonus_gradient_ratio` (its pull relative to the
            loss's) of the last step; `accuracy`, how often the policy's implicit reward agreed with a label before
            the update (ties aside; half for an undecided policy).
        """
        duels = duels.labelled()
        if len(duels) == 0:
            return {}
        shown = self._show(observation, duels)
        metrics: Metrics = {}
        for _ in range(self.settings.gradient_steps):
            figures = self._step(shown, observation)
            metrics = figures | {"accuracy": metrics.get("accuracy", figures["accuracy"])}
        self._updates += 1
        moves = self.settings.reference == "moving"
        if moves and self._updates % self.settings.reference_every == 0:
            self.policy.move_reference()
        return metrics

    def implicit_reward(self, observation: Observation) -> NDArray[np.float32]:
        """Return beta (log pi - log ref) of every candidate under the current policy, [N, K]."""
        prompts = list(observation["prompt"])
        tokens, mask = observation["tokens"], observation["mask"]
        policy = self.policy.score(prompts, tokens, mask)
        reference = self.policy.score(prompts, tokens, mask, source="reference")
        return np.asarray(self.settings.beta * (policy - reference))

    def state_dict(self) -> dict[str, Any]:
        """Return policy, reference, optimiser and counters; tensors in nested dicts and lists."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "gradient_steps": self.gradient_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restores the policy's weights as well."""
        self.policy.load_state_dict(state["policy"])
        # Torch takes the moments over as they are, and would go on changing the caller's.
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.gradient_steps = int(state["gradient_steps"])
        self._updates = int(state["updates"])

    def _step(self, duels: _Shown, observation: Observation) -> Metrics:
        """Take one optimiser step on all duels, in micro-batches whose gradients add up."""
        self._optimizer.zero_grad(set_to_none=True)
        metrics: Metrics = {}
        total, agreement = 0.0, 0.0
        size = self.settings.micro_batch or len(duels)
        for start in range(0, len(duels), size):
            batch = duels.batch(self.policy, slice(start, start + size))
            share = len(batch) / len(duels)
            loss = self._loss(batch)
            objective = loss * share
            if start == 0 and self._bonus is not None:
                bonus, log_prob = self._bonus_term(observation)
                # The pull of the whole loss, estimated on this micro-batch.
                metrics["bonus_gradient_ratio"] = gradient_ratio(loss, batch.log_prob, bonus, log_prob)
                metrics["bonus"] = float(bonus.detach())
                objective = objective + bonus
            torch.autograd.backward(objective)
            total += float(loss.detach()) * share
            agreement += _agreement(batch) * share
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.settings.max_grad_norm)
        self._optimizer.step()
        self.policy.updated()
        self.gradient_steps += 1
        return metrics | {"loss": total, "gradient_norm": float(norm), "accuracy": agreement}

    def _show(self, observation: Observation, duels: Duels) -> _Shown:
        columns = duels.rows[:, np.newaxis]
        prompts = list(observation["prompt"][duels.rows])
        tokens = observation["tokens"][columns, duels.pairs]  # (M, 2, L)
        mask = observation["mask"][columns, duels.pairs]
        reference = self.policy.reference_log_prob(prompts, tokens, mask)  # (M, 2)
        mismatched = None
        if self._loss.needs_mismatched:
            others = prompts[1:] + prompts[:1]
            with torch.no_grad():
                mismatched = self.policy.log_prob(others, tokens, mask)
            mismatched = mismatched - self.policy.reference_log_prob(others, tokens, mask)
        labels = torch.as_tensor(duels.labels)
        return _Shown(prompts, tokens, mask, labels, reference, mismatched)

    def _bonus_term(self, observation: Observation) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the bonus on the observation's candidates of the bonus source, and their log-probs."""
        assert self._bonus is not None
        # Sources occupy the same columns in every row.
        columns = np.flatnonzero(observation["source"][0] == self._bonus_source)
        prompts = list(observation["prompt"])
        tokens, mask = observation["tokens"][:, columns], observation["mask"][:, columns]
        log_prob = self.policy.log_prob(prompts, tokens, mask)
        return self._bonus(log_prob, self.policy.reference_log_prob(prompts, tokens, mask)), log_prob


@dataclass(frozen=True)
class _Shown:
    """M labelled duels as tokens, with what does not change from one gradient step to the next."""

    prompts: list[str]
    tokens: NDArray[np.int64]  # [M, 2, L]
    mask: NDArray[np.int8]  # [M, 2, L]
    labels: torch.Tensor  # [M]
    reference: torch.Tensor  # [M, 2]
    mismatched: torch.Tensor | None  # [M, 2]

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, policy: CausalLMPolicy, part: slice) -> PreferenceBatch:
        log_prob = policy.log_prob(self.prompts[part], self.tokens[part], self.mask[part])
        return PreferenceBatch(
            log_prob=log_prob,
            label=self.labels[part].to(log_prob),
            length=torch.as_tensor(self.mask[part].sum(-1), device=log_prob.device),
            reference_log_prob=self.reference[part],
            mismatched_log_ratio=None if self.mismatched is None else self.mismatched[part],
        )


def _warn_of_large_steps(policy: CausalLMPolicy, learning_rate: float) -> None:
    size = sum(parameter.numel() for parameter in policy.parameters())
    if size > _LARGE_MODEL and learning_rate > _LARGE_RATE:
        warnings.warn(
            f"learning_rate={learning_rate:g} on {size:,} trainable parameters is likely to break the policy; "
            "full fine-tuning of such models is published with 5e-7 to 5e-6",
            stacklevel=4,
        )


def _agreement(batch: PreferenceBatch) -> float:
    """Share of decided labels that the implicit reward agrees with; 1/2 for undecided rewards and ties."""
    decision = torch.sign(batch.difference().detach()) * torch.sign(batch.label - 0.5)
    return float((0.5 + 0.5 * decision).mean())
