"""A lesson as the models see it: its log-probs under policy and reference, piece by piece; no loss is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.lessons import Lesson
from duelenv.agents.losses import PreferenceBatch
from duelenv.agents.passes import Passes
from duelenv.agents.trainer import Trainer
from duelenv.policies.causal_lm import CausalLMPolicy


@dataclass(frozen=True)
class ShownLesson:
    """M labelled duels, with what does not change from one gradient step to the next."""

    lesson: Lesson
    reference: Tensor | None  # [M, J], log ref of the lesson's responses
    others: NDArray[np.int64] | None  # [M], rows whose prompts are others
    mismatched_reference: Tensor | None  # [M, 2], log ref of the pair given those prompts
    passes: Passes
    novelty: Tensor | None = None  # [M, J], how new the lesson's responses are

    @classmethod
    def of(
        cls,
        lesson: Lesson,
        trainer: Trainer,
        *,
        needs_reference: bool,
        others: NDArray[np.int64] | None,
        novelty: NDArray[np.float64] | None = None,
    ) -> ShownLesson:
        """Score a lesson under the reference, in the same pieces and precision as it will be under the policy.

        Then both round alike, and a policy that is its reference has log-ratio 0.
        """
        trainer.processes.check_same(lesson.prompts, lesson.tokens, lesson.mask, lesson.labels)
        score, reference, mismatched = trainer.policy.reference_log_prob, None, None
        passes = trainer.passes(lesson.prompts.tolist(), lesson.mask)
        if needs_reference:
            reference = trainer.scores(
                lesson.tokens.shape[:2],
                lambda part: score(lesson.prompts[part].tolist(), lesson.tokens[part], lesson.mask[part]),
                passes=passes,
            )
        if others is not None:
            mismatched = _given_other_prompts(score, lesson, others, trainer, passes)
        new = None if novelty is None else torch.as_tensor(novelty, dtype=torch.float32, device=trainer.policy.device)
        return cls(lesson, reference, others, mismatched, passes, new)

    def __len__(self) -> int:
        return len(self.lesson)

    def log_prob(self, policy: CausalLMPolicy, part: slice) -> Tensor:
        """Compute log pi of a piece's responses, [m, J]; a prompt is run once for all of them."""
        lesson = self.lesson
        return policy.log_prob(lesson.prompts[part].tolist(), lesson.tokens[part], lesson.mask[part])

    def drawn(self, values: Tensor, part: slice) -> Tensor | None:
        """Take those of a piece's values [m, J] that the bonus looks at, [m, B]; None without a bonus."""
        if self.lesson.bonus is None:
            return None
        return values.gather(1, torch.as_tensor(self.lesson.bonus[part], device=values.device))

    def batch(self, pairs: Tensor, part: slice, mismatched: Tensor | None) -> PreferenceBatch:
        """Give the loss what it sees of a piece whose pairs have the log-probs [m, 2]."""
        return PreferenceBatch(
            log_prob=pairs,
            label=torch.as_tensor(self.lesson.labels[part]).to(pairs),
            length=torch.as_tensor(self.lesson.mask[part, :2].sum(-1), device=pairs.device),
            reference_log_prob=None if self.reference is None else self.reference[part, :2],
            mismatched_log_ratio=mismatched,
        )

    def mismatched_log_ratio(self, trainer: Trainer) -> Tensor:
        """Average log pi - log ref over all responses given other prompts, as the policy stands now; a scalar."""
        assert self.others is not None and self.mismatched_reference is not None
        now = _given_other_prompts(trainer.policy.log_prob, self.lesson, self.others, trainer, self.passes)
        return (now - self.mismatched_reference).mean()


def _given_other_prompts(
    score: Any, lesson: Lesson, others: NDArray[np.int64], trainer: Trainer, passes: Passes
) -> Tensor:
    """Score a lesson's pairs given the prompts of other rows: log-probs [M, 2]."""
    prompts = lesson.prompts[others]
    return trainer.scores(
        (len(lesson), 2),
        lambda part: score(prompts[part].tolist(), lesson.tokens[part, :2], lesson.mask[part, :2]),
        passes=passes,
    )


def other_prompts(prompts: NDArray[np.object_]) -> NDArray[np.int64] | None:
    """Find the next row, going round, that has another prompt, for every row: int64 [M]; None if all are equal."""
    count = len(prompts)
    others = np.empty(count, np.int64)
    for row in range(count):
        following = (np.arange(1, count) + row) % count
        differ = following[prompts[following] != prompts[row]]
        if not len(differ):
            return None
        others[row] = differ[0]
    return others
