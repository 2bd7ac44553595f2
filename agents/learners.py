"""Moves a policy model by preference labels: which loss, which bonus, on which tokens. The trainer moves the weights.

The learner knows nothing of how pairs were chosen. Two responses of the same text teach nothing: their label is a coin,
so that such a pair counts in the mean over a lesson and adds nothing to the loss; a bonus takes its row like any other.
It trains on the tokens that were shown, never on text tokenised again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.base import Metrics, SettingsReader, merged
from duelenv.agents.bonuses import Bonus, gradient_ratio
from duelenv.agents.bonuses.novelty import LinearCounts
from duelenv.agents.distributed import Processes
from duelenv.agents.divergence import Diverged
from duelenv.agents.lessons import Lesson, OldLessons, ReplaySettings, WaitingLessons
from duelenv.agents.losses import PreferenceBatch, PreferenceLoss
from duelenv.agents.objective import ObjectiveSettings
from duelenv.agents.pieces import Piece
from duelenv.agents.reference_draws import ReferenceDraws
from duelenv.agents.roles import Duels, Sets
from duelenv.agents.set_training import train_on_sets
from duelenv.agents.shown import ShownLesson, other_prompts
from duelenv.agents.trainer import Trainer, TrainerSettings
from duelenv.core import AgentView, Observation
from duelenv.policies.causal_lm import CausalLMPolicy


class PreferenceLearner:
    """Trains a policy on labelled pairs of a round.

    Args:
        trainer: Moves the policy's weights.
        loss: The preference loss.
        bonus: A term added to the loss, for the optimistic family.
        draws: What the bonus is taken over; needed with a bonus.
        old: Duels that were taught before and are taught again beside new ones; None teaches each once.

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
        old: OldLessons | None = None,
    ) -> None:
        self.trainer = trainer
        self.loss = loss
        self._bonus = bonus
        self._draws = draws
        self._old = old
        self._waiting = WaitingLessons()
        counted = bonus is not None and bonus.needs_novelty
        self._counts = LinearCounts(trainer.policy.hidden_size) if counted else None  # of what duelled

    @classmethod
    def of(
        cls, view: AgentView, seed: int, settings: SettingsReader, *, duel_is_draw: bool = False
    ) -> PreferenceLearner:
        """Make the learner of a view's policy.

        Args:
            view: Of a world with a policy.
            seed: Root of its streams.
            settings: Read for `ObjectiveSettings`, `TrainerSettings` and `ReplaySettings`.
            duel_is_draw: What is known of the duels that are asked, see `ReferenceDraws`.

        Raises:
            UserError: A setting out of range, or a bonus in a world without as many candidates of the reference.
        """
        assert view.policy is not None
        # The widths of the contextual rules have a beta too; the loss's is then one of its `loss_settings`.
        objective = settings.take(ObjectiveSettings, yields=("beta",))
        trainer = Trainer(view.policy, settings.take(TrainerSettings))
        loss = objective.make_loss()
        bonus = objective.make_bonus(loss)
        draws = None
        if bonus is not None:
            draws = ReferenceDraws(view, seed, objective.bonus_draws, duel_is_draw=duel_is_draw)
        replay = settings.take(ReplaySettings).replay
        return cls(
            trainer,
            loss,
            bonus,
            draws,
            OldLessons(replay, seed) if replay else None,
        )

    @property
    def policy(self) -> CausalLMPolicy:
        """The live policy."""
        return self.trainer.policy

    @property
    def has_bonus(self) -> bool:
        """Whether it minimises an optimist's term beside the loss."""
        return self._bonus is not None

    @property
    def draws_per_pair(self) -> int:
        """Responses that the bonus looks at and no pair has, in each duel that was asked."""
        return 0 if self._draws is None else self._draws.beside

    @property
    def replayed(self) -> int:
        """Old pairs beside each lesson, at most."""
        return 0 if self._old is None else self._old.count

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
            As `teach`, on average over the lessons that made a step or more; nothing where there was none.

        Raises:
            Diverged: A step is not finite. It was not taken, and its labels wait on.
        """
        for piece in pieces:
            rows = np.flatnonzero(~np.isnan(piece.labels))
            if not len(rows):
                continue
            duels = Duels(rows, piece.actions[rows, :2], piece.labels[rows])
            lesson = self._lesson(piece.observation, duels, asked=True)
            if self._counts is not None:
                self._counts.add(self._features(lesson)[:, :2].reshape(2 * len(lesson), -1))
            shares = [Fraction(self.settings.gradient_steps, asked) for asked in piece.asked[rows].tolist()]
            self._waiting.add(lesson, piece.rounds[rows], rows, shares)
        taught = []
        for steps, lesson in self._waiting.whole_steps(self.settings.gradient_steps):
            figures = self._train(lesson if self._old is None else self._old.beside(lesson), steps)
            if self._old is not None:
                self._old.hold(lesson)
            taught.append(figures | {"alike_pairs": float(lesson.alike)})
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
            `skipped`, the number of its labels. Beside all of them `alike_pairs`, how many labels were left out as
            they are about two equal texts; where there are no others, and no bonus, no step is taken.

        Raises:
            Diverged: A step is not finite. It was not taken.
        """
        duels = duels.labelled()
        if len(duels) == 0:
            return {}
        lesson = self._lesson(observation, duels, asked=False)
        return self._train(lesson, self.settings.gradient_steps) | {"alike_pairs": float(lesson.alike)}

    def teach_sets(self, observation: Observation, sets: Sets) -> Metrics:
        """Take `gradient_steps` steps on sets of candidates by the loss that they bring; see `train_on_sets`."""
        return train_on_sets(self.trainer, observation, sets)

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
        parts: dict[str, Any] = {"trainer": self.trainer, "waiting": self._waiting} | self._optional()
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restore the policy's weights as well."""
        self.trainer.load_state_dict(state["trainer"])
        self._waiting.load_state_dict(state["waiting"])
        for name, part in self._optional().items():
            part.load_state_dict(state[name])

    def _optional(self) -> dict[str, Any]:
        parts = {"draws": self._draws, "old": self._old, "counts": self._counts}
        return {name: part for name, part in parts.items() if part is not None}

    # From duels to terms ---------------------------------------------------------------------------------------------

    def _lesson(self, observation: Observation, duels: Duels, *, asked: bool) -> Lesson:
        """Return duels in the tokens that were shown, with what the bonus looks at; equal texts have no label."""
        places = duels.rows[:, np.newaxis], duels.pairs
        prompts, pairs = observation["prompt"][duels.rows], (observation["tokens"][places], observation["mask"][places])
        said = observation["responses"][places]
        labels = np.where(said[:, 0] == said[:, 1], np.nan, duels.labels)
        if self._draws is None:
            return Lesson(prompts, *pairs, labels)
        return Lesson.with_draws(prompts, pairs, labels, self._draws.of(observation, duels, asked=asked))

    def _train(self, lesson: Lesson, steps: int) -> Metrics:
        """Take some steps on the same lesson."""
        if lesson.alike == len(lesson) and self._bonus is None:
            return {}
        others = None
        if self.loss.needs_mismatched:
            others = other_prompts(lesson.prompts)
            if others is None:
                return {"skipped": float(len(lesson))}
        shown = ShownLesson.of(
            lesson, self.trainer, needs_reference=self._needs_reference, others=others, novelty=self._novelty(lesson)
        )
        taken: list[_Figures] = []
        try:
            norms = self.trainer.train(
                partial(self._terms, shown, taken), steps, outcome=partial(self._one_by_one, shown)
            )
        except Diverged as error:
            error.batch = f"a batch of {len(shown)} pairs"
            error.name_rows(self._one_by_one(shown), shown.lesson.prompts.tolist())
            raise
        first, last = (figures.over(self.trainer.processes) for figures in (taken[0], taken[-1]))
        metrics = {"loss": last.loss, "gradient_norm": norms[-1], "accuracy": first.accuracy}
        if self._bonus is not None:
            metrics["bonus"] = last.bonus
            metrics["bonus_gradient_ratio"] = gradient_ratio(last.loss_pull, last.bonus_pull)
        return metrics

    def _features(self, lesson: Lesson) -> NDArray[np.float32]:
        """Return the start model's hidden layer of a lesson's responses, [M, J, h]."""
        return self.policy.embed(lesson.prompts.tolist(), lesson.tokens, lesson.mask)

    def _novelty(self, lesson: Lesson) -> NDArray[np.float64] | None:
        """Return how much newer a lesson's responses [M, J] are than what the bonus looks at is on average."""
        if self._counts is None or lesson.bonus is None:
            return None
        novelty = self._counts.novelty(self._features(lesson))
        return novelty - np.take_along_axis(novelty, lesson.bonus, axis=1).mean()

    def _one_by_one(self, shown: ShownLesson) -> Tensor:
        """Return the loss of every pair and the log-probs of its responses, [M, 1 + J]; of equal texts no loss."""
        mismatched = None if shown.others is None else shown.mismatched_log_ratio(self.trainer)

        def score(part: slice) -> Tensor:
            log_prob = shown.log_prob(self.policy, part)
            batch = shown.batch(log_prob[:, :2], part, mismatched)
            losses = torch.zeros(len(batch), device=log_prob.device)
            losses[~batch.label.isnan()] = self.loss.rows(batch).to(losses)
            return torch.column_stack([losses, log_prob])

        width = shown.lesson.tokens.shape[1]
        return self.trainer.scores((len(shown), 1 + width), score, passes=shown.passes)

    @property
    def _needs_reference(self) -> bool:
        return self.loss.needs_reference or (self._bonus is not None and self._bonus.needs_reference)

    def _terms(self, shown: ShownLesson, taken: list[_Figures]) -> Iterator[Tensor]:
        """Make the terms of one step, piece by piece."""
        figures = _Figures()
        taken.append(figures)
        mismatched = None if shown.others is None else shown.mismatched_log_ratio(self.trainer)
        for part in self.trainer.pieces(shown.passes):
            log_prob = shown.log_prob(self.policy, part)
            # Two reads of what may be the same response, so that each knows its own pull.
            pairs, drawn = log_prob[:, :2], shown.drawn(log_prob, part)
            pairs.retain_grad()
            batch = shown.batch(pairs, part, mismatched)
            share = self.trainer.weight * len(batch) / len(shown)
            told = int(np.count_nonzero(~np.isnan(shown.lesson.labels[part])))  # the loss is a mean over these
            of_told = self.trainer.weight * told / max(len(shown) - shown.lesson.alike, 1)
            loss = self.loss(batch)
            term = loss * (self.trainer.weight * told / len(shown))
            if self._bonus is not None and drawn is not None:
                drawn.retain_grad()
                reference = None if shown.reference is None else shown.drawn(shown.reference[part], part)
                if shown.novelty is None:
                    bonus = self._bonus(drawn, reference)
                else:
                    bonus = self._bonus(drawn, reference, shown.drawn(shown.novelty[part], part))
                term = term + bonus * share
                figures.bonus += float(bonus.detach()) * share
            figures.loss += float(loss.detach()) * of_told
            figures.accuracy += _agreement(self.loss, batch if told == len(batch) else batch.counted()) * of_told
            yield term
            assert pairs.grad is not None
            figures.loss_pull += float(pairs.grad.abs().sum())
            if drawn is not None and drawn.grad is not None:
                figures.bonus_pull += float(drawn.grad.abs().sum())


@dataclass
class _Figures:
    """Of one step; pulls are sums of |d objective / d log pi|."""

    loss: float = 0.0
    bonus: float = 0.0
    accuracy: float = 0.0
    loss_pull: float = 0.0
    bonus_pull: float = 0.0

    def over(self, processes: Processes) -> _Figures:
        """Return the sums over processes."""
        return _Figures(*processes.total(astuple(self)))


def _agreement(loss: PreferenceLoss, batch: PreferenceBatch) -> float:
    """Compute the share of decided labels that the implicit reward agrees with; 1/2 for undecided rewards and ties."""
    if not len(batch):
        return 0.0
    reward = loss.reward(batch.log_prob.detach(), batch.reference_log_prob, batch.length)
    decision = torch.sign(reward[:, 0] - reward[:, 1]) * torch.sign(batch.label - 0.5)
    return float((0.5 + 0.5 * decision).mean())
