"""Moves a policy model by preference labels: which loss, which bonus, on which tokens. The trainer moves the weights.

The learner knows nothing of how pairs were chosen. It trains on the tokens that were shown, never on text tokenised
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.base import Metrics, SettingsReader, merged
from duelenv.agents.bonuses import BONUSES, Bonus, gradient_ratio, make_bonus
from duelenv.agents.composed import Duels
from duelenv.agents.lessons import Lesson, WaitingLessons
from duelenv.agents.losses import LOSSES, PreferenceBatch, PreferenceLoss, make_loss
from duelenv.agents.pieces import Piece
from duelenv.agents.trainer import Trainer, TrainerSettings
from duelenv.core import AgentView, Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.policies.causal_lm import CausalLMPolicy

#: Whose responses the bonuses push down.
_PUSHED_AGAINST: Final = "reference"


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is minimised.

    Attributes:
        loss: Name of a preference loss, one of `duelenv.agents.losses.LOSSES`.
        beta: The loss's beta, for DPO the strength of the implied KL penalty; None takes the loss's own default.
        loss_settings: Further settings of the loss by name.
        bonus: Name of an optimist's term beside the loss, one of `duelenv.agents.bonuses.BONUSES`; None for none.
        bonus_settings: Its settings by name; its beta is the loss's.
    """

    loss: str = "dpo"
    beta: float | None = None
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    bonus: str | None = None
    bonus_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("loss_settings", "bonus_settings"):
            checks.mapping(name, getattr(self, name))
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


class PreferenceLearner:
    """Trains a policy on labelled pairs of a round.

    Args:
        trainer: Moves the policy's weights.
        loss: The preference loss.
        bonus: A term added to the loss, for the optimistic family.
        draws: What the bonus is taken over; needed with a bonus.

    Attributes:
        trainer: As given.
        loss: As given.
    """

    def __init__(
        self,
        trainer: Trainer,
        loss: PreferenceLoss,
        bonus: Bonus | None = None,
        draws: ReferenceDraws | None = None,
    ) -> None:
        self.trainer = trainer
        self.loss = loss
        self._bonus = bonus
        self._draws = draws
        self._waiting = WaitingLessons()

    @classmethod
    def of(cls, view: AgentView, seed: int, settings: SettingsReader, **defaults: Any) -> PreferenceLearner:
        """Make the learner of a view's policy.

        Args:
            view: Of a world with a policy.
            seed: Root of its streams.
            settings: Read for `ObjectiveSettings` and `TrainerSettings`.
            **defaults: The agent's own defaults of `ObjectiveSettings`.

        Raises:
            UserError: A setting out of range, or a bonus in a world without candidates of the reference.
        """
        assert view.policy is not None
        # The widths of the contextual rules have a beta too; the loss's is then one of its `loss_settings`.
        objective = settings.take(ObjectiveSettings, yields=("beta",), **defaults)
        trainer = Trainer(view.policy, settings.take(TrainerSettings))
        loss = objective.make_loss()
        bonus = objective.make_bonus(loss)
        return cls(trainer, loss, bonus, None if bonus is None else ReferenceDraws(view, seed))

    @property
    def policy(self) -> CausalLMPolicy:
        """The live policy."""
        return self.trainer.policy

    @property
    def settings(self) -> TrainerSettings:
        """How it is trained."""
        return self.trainer.settings

    @property
    def gradient_steps(self) -> int:
        """Optimiser steps taken so far."""
        return self.trainer.gradient_steps

    def learn(self, pieces: Sequence[Piece]) -> Metrics:
        """Take the steps that the labels are worth, together with those that wait; what is left waits on.

        Args:
            pieces: All that came in one call, of rounds of AlignmentDuel.

        Returns:
            As `teach`, on average over the steps' labels; nothing where there was no whole step.
        """
        for piece in pieces:
            rows = np.flatnonzero(~np.isnan(piece.labels))
            if not len(rows):
                continue
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
            the update (ties aside; half for an undecided policy). Of a lesson that the loss can make nothing of,
            `skipped` alone, the number of its labels.
        """
        duels = duels.labelled()
        if len(duels) == 0:
            return {}
        return self._train(self._lesson(observation, duels), self.settings.gradient_steps)

    def implicit_reward(self, observation: Observation) -> NDArray[np.float32]:
        """Return what the current policy stands for as the utility of every candidate, [N, K]; see `loss.reward`."""
        prompts = list(observation["prompt"])
        tokens, mask = observation["tokens"], observation["mask"]
        reference = None
        if self.loss.needs_reference:
            reference = torch.from_numpy(self.policy.score(prompts, tokens, mask, source="reference"))
        policy = torch.from_numpy(self.policy.score(prompts, tokens, mask))
        return self.loss.reward(policy, reference, torch.as_tensor(mask.sum(-1))).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return the trainer's state and what waits; tensors in nested dicts and lists."""
        draws = {} if self._draws is None else {"draws": self._draws.state_dict()}
        return {"trainer": self.trainer.state_dict(), "waiting": self._waiting.state_dict()} | draws

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restores the policy's weights as well."""
        self.trainer.load_state_dict(state["trainer"])
        self._waiting.load_state_dict(state["waiting"])
        if self._draws is not None:
            self._draws.load_state_dict(state["draws"])

    # From duels to terms ---------------------------------------------------------------------------------------------

    def _lesson(self, observation: Observation, duels: Duels) -> Lesson:
        """Return duels in the tokens that were shown, with what the bonus looks at in their rows behind them."""
        columns = duels.rows[:, np.newaxis]
        tokens, mask = observation["tokens"][columns, duels.pairs], observation["mask"][columns, duels.pairs]
        if self._draws is not None:
            rival_tokens, rival_mask = self._draws.of(observation, duels.rows)
            tokens, mask = np.concatenate([tokens, rival_tokens], axis=1), np.concatenate([mask, rival_mask], axis=1)
        return Lesson(prompts=observation["prompt"][duels.rows], tokens=tokens, mask=mask, labels=duels.labels)

    def _train(self, lesson: Lesson, steps: int) -> Metrics:
        """Take some steps on the same lesson."""
        others = None
        if self.loss.needs_mismatched:
            others = _other_prompts(lesson.prompts)
            if others is None:
                return {"skipped": float(len(lesson))}
        shown = _Shown.of(lesson, self.trainer, needs_reference=self._needs_reference, others=others)
        taken: list[_Figures] = []
        norms = self.trainer.train(partial(self._terms, shown, taken), steps)
        metrics = {"loss": taken[-1].loss, "gradient_norm": norms[-1], "accuracy": taken[0].accuracy}
        if self._bonus is not None:
            metrics["bonus"] = taken[-1].bonus
            metrics["bonus_gradient_ratio"] = gradient_ratio(taken[-1].loss_pull, taken[-1].bonus_pull)
        return metrics

    @property
    def _needs_reference(self) -> bool:
        return self.loss.needs_reference or (self._bonus is not None and self._bonus.needs_reference)

    def _terms(self, shown: _Shown, taken: list[_Figures]) -> Iterator[Tensor]:
        """Make the terms of one step, piece by piece."""
        figures = _Figures()
        taken.append(figures)
        mismatched = None if shown.others is None else shown.mismatched_log_ratio(self.trainer)
        for part in self.trainer.pieces(len(shown)):
            log_prob = shown.log_prob(self.policy, part)
            log_prob.retain_grad()
            batch = shown.batch(log_prob, part, mismatched)
            share = len(batch) / len(shown)
            loss = self.loss(batch)
            term = loss * share
            if self._bonus is not None:
                reference = None if shown.reference is None else shown.reference[part, 2:]
                bonus = self._bonus(log_prob[:, 2:], reference)
                term = term + bonus * share
                figures.bonus += float(bonus.detach()) * share
            figures.loss += float(loss.detach()) * share
            figures.accuracy += _agreement(self.loss, batch) * share
            yield term
            assert log_prob.grad is not None
            pull = log_prob.grad.abs()
            figures.loss_pull += float(pull[:, :2].sum())
            figures.bonus_pull += float(pull[:, 2:].sum())


@dataclass
class _Figures:
    """Of one step; pulls are sums of |d objective / d log pi|."""

    loss: float = 0.0
    bonus: float = 0.0
    accuracy: float = 0.0
    loss_pull: float = 0.0
    bonus_pull: float = 0.0


@dataclass(frozen=True)
class _Shown:
    """M labelled duels, with what does not change from one gradient step to the next."""

    lesson: Lesson
    reference: Tensor | None  # [M, J], log ref of the pair and of what the bonus looks at
    others: NDArray[np.int64] | None  # [M], rows whose prompts are others
    mismatched_reference: Tensor | None  # [M, 2], log ref of the pair given those prompts

    @classmethod
    def of(cls, lesson: Lesson, trainer: Trainer, *, needs_reference: bool, others: NDArray[np.int64] | None) -> _Shown:
        """Score a lesson under the reference, in the same pieces and precision as it will be under the policy.

        Then both round alike, and a policy that is its reference has log-ratio 0.
        """
        policy, reference, mismatched = trainer.policy, None, None
        with trainer.precise():
            if needs_reference:
                reference = torch.cat(
                    [
                        policy.reference_log_prob(lesson.prompts[part].tolist(), lesson.tokens[part], lesson.mask[part])
                        for part in trainer.pieces(len(lesson))
                    ]
                )
            if others is not None:
                score = policy.reference_log_prob
                mismatched = _given_other_prompts(score, lesson, others, trainer)
        return cls(lesson, reference, others, mismatched)

    def __len__(self) -> int:
        return len(self.lesson)

    def log_prob(self, policy: CausalLMPolicy, part: slice) -> Tensor:
        """log pi of a piece's pairs and of what the bonus looks at, [m, J]; a prompt is run once for all of them."""
        lesson = self.lesson
        return policy.log_prob(lesson.prompts[part].tolist(), lesson.tokens[part], lesson.mask[part])

    def batch(self, log_prob: Tensor, part: slice, mismatched: Tensor | None) -> PreferenceBatch:
        """What the loss sees of a piece."""
        return PreferenceBatch(
            log_prob=log_prob[:, :2],
            label=torch.as_tensor(self.lesson.labels[part]).to(log_prob),
            length=torch.as_tensor(self.lesson.mask[part, :2].sum(-1), device=log_prob.device),
            reference_log_prob=None if self.reference is None else self.reference[part, :2],
            mismatched_log_ratio=mismatched,
        )

    def mismatched_log_ratio(self, trainer: Trainer) -> Tensor:
        """Mean of log pi - log ref over all responses given other prompts, as the policy stands now; a scalar."""
        assert self.others is not None and self.mismatched_reference is not None
        with torch.no_grad():
            now = _given_other_prompts(trainer.policy.log_prob, self.lesson, self.others, trainer)
        return (now - self.mismatched_reference).mean()


def _given_other_prompts(score: Any, lesson: Lesson, others: NDArray[np.int64], trainer: Trainer) -> Tensor:
    """Log-probs [M, 2] of a lesson's pairs given the prompts of other rows."""
    prompts = lesson.prompts[others]
    return torch.cat(
        [
            score(prompts[part].tolist(), lesson.tokens[part, :2], lesson.mask[part, :2])
            for part in trainer.pieces(len(lesson))
        ]
    )


def _other_prompts(prompts: NDArray[np.object_]) -> NDArray[np.int64] | None:
    """For every row the next one, going round, that has another prompt, int64 [M]; None where all prompts are equal."""
    count = len(prompts)
    others = np.empty(count, np.int64)
    for row in range(count):
        following = (np.arange(1, count) + row) % count
        differ = following[prompts[following] != prompts[row]]
        if not len(differ):
            return None
        others[row] = differ[0]
    return others


def _agreement(loss: PreferenceLoss, batch: PreferenceBatch) -> float:
    """Share of decided labels that the implicit reward agrees with; 1/2 for undecided rewards and ties."""
    reward = loss.reward(batch.log_prob.detach(), batch.reference_log_prob, batch.length)
    decision = torch.sign(reward[:, 0] - reward[:, 1]) * torch.sign(batch.label - 0.5)
    return float((0.5 + 0.5 * decision).mean())


# What a bonus is taken over ------------------------------------------------------------------------------------------


class ReferenceDraws:
    """Responses of the reference at temperature 1: those among the candidates, or own where the world's is another.

    Args:
        view: Of a world with candidates of the reference.
        seed: Root of the streams of own draws.

    Raises:
        UserError: No candidates come from the reference.
    """

    def __init__(self, view: AgentView, seed: int) -> None:
        assert view.policy is not None
        if _PUSHED_AGAINST not in view.sources:
            raise UserError(
                f"a bonus pushes down what the reference says, and the candidates come from {', '.join(view.sources)} "
                "only; set sources={'policy': ..., 'reference': ...}"
            )
        self._policy = view.policy
        self._source = view.sources.index(_PUSHED_AGAINST)
        self._count = view.source_counts[self._source]
        self._shown_will_do = view.temperature == 1.0
        self._streams = RowStreams(seed, "agents/bonus", view.num_envs)

    def of(self, observation: Observation, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Return tokens and mask [M, B, L] of B draws in each of M rows of a round.

        B is how many of the round's candidates come from the reference.
        """
        columns = np.flatnonzero(observation["source"][0] == self._source)  # the same in every row
        if self._shown_will_do and len(columns) == self._count:  # texts from elsewhere come without any
            places = rows[:, np.newaxis], columns
            return observation["tokens"][places], observation["mask"][places]
        uniforms = self._streams.uniform(self._count, self._policy.max_new_tokens)[rows]
        drawn = self._policy.sample(
            observation["prompt"][rows].tolist(),
            self._count,
            uniforms=uniforms,
            source=_PUSHED_AGAINST,
            temperature=1.0,
        )
        return drawn.tokens, drawn.mask

    def state_dict(self) -> Any:
        """Return the state of its streams."""
        return self._streams.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Continue from `state_dict`."""
        self._streams.load_state_dict(state)
