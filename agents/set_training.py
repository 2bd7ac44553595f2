"""Trains a policy on sets of responses with numbers of their own; the loss comes with the sets. Loads torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from duelenv.agents.base import Metrics
from duelenv.agents.divergence import Diverged
from duelenv.agents.roles import Sets
from duelenv.agents.trainer import Trainer
from duelenv.core import Observation


def train_on_sets(trainer: Trainer, observation: Observation, sets: Sets) -> Metrics:
    """Take a round's steps on sets of an observation's candidates.

    Args:
        trainer: Of the policy.
        observation: A round of AlignmentDuel.
        sets: Of its candidates.

    Returns:
        `loss`, on average over the sets, and `gradient_norm` of the last step; nothing where there are no sets.

    Raises:
        Diverged: A step is not finite. It was not taken.
    """
    if not len(sets):
        return {}
    prompts = observation["prompt"][sets.rows].tolist()
    places = sets.rows[:, None], sets.arms
    tokens, mask = observation["tokens"][places], observation["mask"][places]
    values = torch.as_tensor(sets.values, dtype=torch.float32, device=trainer.policy.device)
    width = sets.arms.shape[1]
    trainer.processes.check_same(observation["prompt"][sets.rows], tokens, mask, sets.values)
    passes = trainer.passes(prompts, mask, width)
    reference = None
    if sets.loss.needs_reference:
        score = trainer.policy.reference_log_prob
        reference = trainer.scores(
            sets.arms.shape, lambda part: score(prompts[part], tokens[part], mask[part]), passes=passes
        )
    losses: list[float] = []

    def terms() -> Iterator[Tensor]:
        losses.append(0.0)
        for part in trainer.pieces(passes):
            log_prob = trainer.policy.log_prob(prompts[part], tokens[part], mask[part])
            beside = None if reference is None else reference[part]
            term = sets.loss(log_prob, beside, values[part].to(log_prob)).sum() / len(sets)
            losses[-1] += float(term.detach()) * trainer.weight
            yield term

    def one_by_one(part: slice) -> Tensor:
        log_prob = trainer.policy.log_prob(prompts[part], tokens[part], mask[part])
        beside = None if reference is None else reference[part]
        return torch.column_stack([sets.loss(log_prob, beside, values[part].to(log_prob)), log_prob])

    def outcome() -> Tensor:
        return trainer.scores((len(sets), 1 + width), one_by_one, passes=passes)

    try:
        norms = trainer.train(terms, trainer.settings.gradient_steps, outcome=outcome)
    except Diverged as error:
        error.batch = f"a batch of {len(sets)} sets of {width} responses"
        error.name_rows(outcome(), prompts)
        raise
    return {"loss": trainer.processes.total(losses)[-1], "gradient_norm": norms[-1]}
