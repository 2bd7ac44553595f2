"""Moves a policy model by preference labels: one optimiser, one preference loss, and the optimists' bonus.

The learner knows nothing of how pairs were chosen. It trains on the tokens that were shown, never on text tokenised
again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duelenv.agents.base import Metrics, merged
from duelenv.agents.bonuses import Bonus, gradient_ratio
from duelenv.agents.composed import Duels
from duelenv.agents.lessons import Lesson, WaitingLessons
from duelenv.agents.losses import PreferenceBatch, make_loss
from duelenv.agents.pieces import Piece
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
        gradient_steps: Optimiser steps that the labels asked for in a round are worth together, all on the same pairs;
            see `duelenv.agents.lessons` for labels that come late, or never.
        max_grad_norm: Gradients are clipped to this norm.
        micro_batch: Pairs in one forward pass; gradients add up to those of the whole batch. None takes all at once.
        reference: "fixed" keeps the start model as the reference; "moving" copies the policy into it.
        reference_every: Rounds' worth of steps between two copies when the reference moves.
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
        self._waiting = WaitingLessons()
        self._bonus = bonus
        self._bonus_source = bonus_source
        _warn_of_large_steps(policy, settings.learning_rate)
        self._loss = make_loss(settings.loss, beta=settings.beta, **settings.loss_settings)
        self._optimizer = torch.optim.AdamW(
            policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def learn(self, pieces: Sequence[Piece]) -> Metrics:
        """Take the steps that the labels are worth, together with those that wait; what is left waits on.

        Args:
            pieces: All that came in one call, of rounds of AlignmentDuel.

        Returns:
            As `teach`, on average over the steps' labels; nothing where there was no whole step.
        """
        for piece in pieces:
            rows = np.flatnonzero(~np.isnan(piece.labels))
            lesson = self._lesson(piece.observation, Duels(rows, piece.actions[rows, :2], piece.labels[rows]))
            shares = [Fraction(self.settings.gradient_steps, asked) for asked in piece.asked[rows].tolist()]
            self._waiting.add(lesson, piece.rounds[rows], rows, shares)
        taught = [
            self._train(lesson, steps) for steps, lesson in self._waiting.whole_steps(self.settings.gradient_steps)
        ]
        return merged(taught) if taught else {}

    def teach(self, observation: Observation, duels: Duels) -> Metrics:
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
        return self._train(self._lesson(observation, duels), self.settings.gradient_steps)

    def _train(self, lesson: Lesson, steps: int) -> Metrics:
        """Take some steps on the same lesson."""
        shown = self._show(lesson)
        metrics: Metrics = {}
        for _ in range(steps):
            figures = self._step(shown, lesson)
            metrics = figures | {"accuracy": metrics.get("accuracy", figures["accuracy"])}
        if self.settings.reference == "moving":
            between = self.settings.reference_every * self.settings.gradient_steps
            if self.gradient_steps // between > (self.gradient_steps - steps) // between:
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
            "optimizer": _on_the_host(self._optimizer.state_dict()),
            "gradient_steps": self.gradient_steps,
            "waiting": self._waiting.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restores the policy's weights as well."""
        self.policy.load_state_dict(state["policy"])
        # Torch takes moments over that lie where the weights do, and would go on changing the caller's.
        self._optimizer.load_state_dict(_on_the_host(state["optimizer"]))
        self.gradient_steps = int(state["gradient_steps"])
        self._waiting.load_state_dict(state["waiting"])

    def _step(self, duels: _Shown, lesson: Lesson) -> Metrics:
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
                bonus, log_prob = self._bonus_term(lesson)
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

    def _lesson(self, observation: Observation, duels: Duels) -> Lesson:
        """Return duels in the tokens that were shown, with what the bonus looks at in their rows."""
        rows, columns = duels.rows, duels.rows[:, np.newaxis]
        tokens, mask = observation["tokens"], observation["mask"]
        rivals = np.zeros(0, np.int64)
        if self._bonus is not None:  # sources occupy the same columns in every row
            rivals = np.flatnonzero(observation["source"][0] == self._bonus_source)
        return Lesson(
            prompts=observation["prompt"][rows],
            tokens=tokens[columns, duels.pairs],  # (M, 2, L)
            mask=mask[columns, duels.pairs],
            labels=duels.labels,
            rival_tokens=tokens[columns, rivals],  # (M, B, L)
            rival_mask=mask[columns, rivals],
        )

    def _show(self, lesson: Lesson) -> _Shown:
        prompts, tokens, mask = lesson.prompts.tolist(), lesson.tokens, lesson.mask
        reference = self.policy.reference_log_prob(prompts, tokens, mask)  # (M, 2)
        mismatched = None
        if self._loss.needs_mismatched:
            others = prompts[1:] + prompts[:1]
            with torch.no_grad():
                mismatched = self.policy.log_prob(others, tokens, mask)
            mismatched = mismatched - self.policy.reference_log_prob(others, tokens, mask)
        return _Shown(prompts, tokens, mask, torch.as_tensor(lesson.labels), reference, mismatched)

    def _bonus_term(self, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the bonus on the responses that the lesson's rows drew from the bonus source, and their log-probs."""
        assert self._bonus is not None
        prompts, tokens, mask = lesson.prompts.tolist(), lesson.rival_tokens, lesson.rival_mask
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


def _on_the_host(state: Any) -> Any:
    """Return nested state with copies of its tensors in main memory: a second copy has no room beside a large model."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _on_the_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on_the_host(value) for value in state)
    return state


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
