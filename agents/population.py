"""What losses, bonuses and teaching rules are on average over all responses to a prompt, where these can be listed.

With M responses the mean over draws is a sum: numbers to compare a learner with, and losses to minimise without noise.
The law that draws is held fixed, as in a learner's step: a gradient is that of the log-probs alone. Everything goes
through the loss objects that learners use, and is differentiable in `Listed.log_prob`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.bonuses import Bonus
from duelenv.agents.losses import PreferenceLoss
from duelenv.agents.set_losses import SetLoss
from duelenv.exact import Responses
from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy


@dataclass(frozen=True)
class Listed:
    """The log-probs of all M responses to a prompt; leading axes, where there are any, are policies side by side.

    Attributes:
        log_prob: log pi, float [..., M], nats, with gradient where one is wanted.
        reference_log_prob: log ref, [..., M].
        length: Tokens of each response, int64 [..., M].
    """

    log_prob: Tensor
    reference_log_prob: Tensor
    length: Tensor

    @classmethod
    def of(cls, policy: CausalLMPolicy, prompt: str, responses: Responses) -> Listed:
        """Score all responses of a real policy to a prompt; gradients reach its weights."""
        tokens, mask = responses.tokens[np.newaxis], responses.mask[np.newaxis]
        return cls(
            policy.log_prob([prompt], tokens, mask)[0],
            policy.reference_log_prob([prompt], tokens, mask)[0],
            torch.as_tensor(responses.mask.sum(1), dtype=torch.int64, device=policy.device),
        )


def preference_losses(
    loss: PreferenceLoss,
    listed: Listed,
    pairs: NDArray[np.int64],
    label: float,
    mismatched_log_ratio: Tensor | None = None,
) -> Tensor:
    """Return the loss of every pair under one label.

    Args:
        loss: A preference loss.
        listed: The responses.
        pairs: First and second response, [P, 2] of one policy; or one pair [2], for each of G policies.
        label: 1 if the first was preferred, 0 if the second was, or between.
        mismatched_log_ratio: As of the loss's batch, a scalar, where it needs that.

    Returns:
        [P], or [G].
    """
    columns = torch.as_tensor(pairs)
    log_prob = listed.log_prob[..., columns]
    batch = loss.batch_type(
        log_prob=log_prob,
        label=torch.full(log_prob.shape[:1], label, dtype=log_prob.dtype, device=log_prob.device),
        length=listed.length[..., columns],
        reference_log_prob=listed.reference_log_prob[..., columns],
        mismatched_log_ratio=mismatched_log_ratio,
    )
    return loss.rows(batch)


def expected_loss(
    loss: PreferenceLoss,
    listed: Listed,
    law: NDArray[np.float64],
    preference: NDArray[np.float64],
    mismatched_log_ratio: Tensor | None = None,
) -> Tensor:
    """Return sum_ij law_ij [P_ij L(i won against j) + (1 - P_ij) L(j won against i)], a scalar.

    Args:
        loss: A preference loss.
        listed: The M responses.
        law: Probability that (i, j) is the duel, [M, M]; what is missing to 1 is no duel.
        preference: P(i is preferred to j), [M, M].
        mismatched_log_ratio: As of the loss's batch, where it needs that: of a population, the mean over prompts.
    """
    pairs = np.argwhere(law > 0)
    places = tuple(pairs.T)
    won, lost = (preference_losses(loss, listed, pairs, label, mismatched_log_ratio) for label in (1.0, 0.0))
    weight, win = (torch.as_tensor(values[places]).to(won) for values in (law, preference))
    return (weight * (win * won + (1 - win) * lost)).sum()


def expected_bonus(bonus: Bonus, listed: Listed, law: Tensor, novelty: Tensor | None = None) -> Tensor:
    """Return the bonus with its mean taken over all responses, [...]: a scalar of one policy.

    Args:
        bonus: It.
        listed: The M responses.
        law: Probability of each in the policy that is pushed against, [M].
        novelty: b of each response, [M], see `duelenv.agents.bonuses.novelty`, for a bonus that reads it. The baseline
            is its mean under the law, which that of a step's draws comes to.

    Raises:
        UserError: A bonus that reads the novelty got none, or one of another shape.
    """
    columns = [listed.log_prob, listed.reference_log_prob]
    if bonus.needs_novelty:
        if novelty is None or novelty.shape != law.shape:
            found = None if novelty is None else list(novelty.shape)
            raise UserError(
                f"novelty has shape {found}, and {type(bonus).__name__} reads that of each of the {len(law)} "
                "responses; pass LinearCounts.novelty of their features, say"
            )
        columns.append((novelty - (law.to(novelty) * novelty).sum()).to(listed.log_prob).expand_as(listed.log_prob))
    each = cast("Callable[..., Tensor]", torch.vmap(bonus.__call__))
    flat = each(*(column.reshape(-1) for column in columns))
    return (flat.reshape(listed.log_prob.shape) * law.to(flat)).sum(-1)


def expected_set_loss(
    loss: SetLoss, listed: Listed, arms: NDArray[np.int64], values: NDArray[np.float64], law: NDArray[np.float64]
) -> Tensor:
    """Return the sum over sets of their probability times their loss, a scalar.

    Args:
        loss: Of sets.
        listed: The M responses.
        arms: S sets of J of them, [S, J].
        values: What the teacher says of each, [S, J].
        law: Probability of each set, [S].
    """
    columns = torch.as_tensor(arms)
    reference = listed.reference_log_prob[columns] if loss.needs_reference else None
    log_prob = listed.log_prob[columns]
    losses = loss(log_prob, reference, torch.as_tensor(values).to(log_prob))
    return (torch.as_tensor(law).to(losses) * losses).sum()


def every_draw(laws: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return all that independent candidates may be, one of M responses each, and how probable that is.

    Args:
        laws: The law of each of K candidates, [M] each.

    Returns:
        int64 [M^K, K] and float64 [M^K].
    """
    drawn = np.stack(np.meshgrid(*(np.arange(len(law)) for law in laws), indexing="ij"), axis=-1).reshape(-1, len(laws))
    probability = np.prod([law[drawn[:, place]] for place, law in enumerate(laws)], axis=0)
    return drawn.astype(np.int64), np.asarray(probability, np.float64)
