"""The sampling loop: token by token, many responses at once; not for drawing one token, which is `sampling`.

A prompt is run once and its key-value cache is shared out to its K responses, where the model allows it. `generate()`
is the correctness reference for this loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.passes import Reading, Shortcuts, extended
from duelenv.policies.sampling import draw, token_log_prob

# Dropping finished rows from a batch copies its cache; done when at most this share of them is still alive.
_DROP_AT = 0.75


@dataclass(frozen=True)
class Term:
    """One model's part in the next-token logits sum_m coefficient_m * logits_m."""

    coefficient: float
    playing: Callable[[], AbstractContextManager[Any]]
    """Lends the model for the duration of a pass: two terms may be two adapters of one model."""


def uniform_numbers(
    given: ArrayLike | None, generator: torch.Generator | None, shape: tuple[int, int, int], *, needed: bool
) -> torch.Tensor:
    """The numbers that decide tokens, [B, K, L] in [0, 1): those given, the generator's, or zeros if none are needed.

    Raises:
        UserError: the wrong shape or range, no source of randomness or two.
    """
    if given is not None and generator is not None:
        raise UserError("uniforms and a generator were both given; pass one of them")
    if generator is not None:
        # Apple's GPUs have no float64.
        dtype = torch.float32 if generator.device.type == "mps" else torch.float64
        return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)
    if given is None:
        if needed:
            raise UserError("sampling needs randomness and got none; pass uniforms or a torch.Generator")
        return torch.zeros(shape, dtype=torch.float64)
    array = np.asarray(given, dtype=np.float64)
    if array.shape != shape:
        raise UserError(
            f"uniforms have the shape {list(array.shape)}; expected [prompts, responses, max_new_tokens] = "
            f"{list(shape)}, one number for each token"
        )
    if not ((array >= 0) & (array < 1)).all():
        raise UserError(f"uniforms lie in [{array.min()}, {array.max()}]; expected numbers in [0, 1)")
    return torch.from_numpy(array)


def draw_responses(
    mixture: Sequence[Term],
    prompts: Prompts,
    uniforms: torch.Tensor,
    temperature: float,
    shortcuts: Shortcuts,
    *,
    end_ids: Sequence[int],
    pad_id: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws K responses to each of B prompts.

    Args:
        mixture: the models whose logits are added.
        prompts: B prompts, on the models' device.
        uniforms: [B, K, L] in [0, 1), the number that decides each token.
        temperature: 0 takes the most probable token.
        shortcuts: what the models allow.
        end_ids: tokens that end a response.
        pad_id: what follows the end.

    Returns:
        Tokens int64, mask bool (the end token included) and log-probs float32 at temperature 1, each [B, K, L].

    Raises:
        UserError: logits that are not numbers.
    """
    num_prompts, num_responses, length = uniforms.shape
    rows = num_prompts * num_responses
    device = prompts.ids.device
    # Apple's GPUs have no float64.
    uniforms = uniforms.to(device, torch.float32 if device.type == "mps" else torch.float64)
    ends = torch.tensor(end_ids, device=device, dtype=torch.long)
    tokens = torch.full((rows, length), pad_id, device=device)
    mask = torch.zeros((rows, length), dtype=torch.bool, device=device)
    log_prob = torch.zeros((rows, length), device=device)
    # Of the rows still run: where their results go, and what their next step needs.
    place = torch.arange(rows, device=device)
    alive = torch.ones(rows, dtype=torch.bool, device=device)
    attention = extended(prompts.attention, num_responses, length)
    readings = []
    for term in mixture:
        with term.playing() as model:
            readings.append(Reading(model, prompts, num_responses, shortcuts))
    logits = _combined(mixture, [reading.first for reading in readings])  # [B, V]
    numbers = uniforms[:, :, 0]  # the first draw: B distributions, K draws from each
    for step in range(length):
        if logits.isnan().any():
            raise UserError(
                "the model gives logits that are not numbers, so that no token can be drawn; check its weights, lower "
                "the learning rate, or load it with dtype='float32'"
            )
        drawn = draw(logits, numbers, temperature)
        values = token_log_prob(logits, drawn).reshape(-1)
        drawn = torch.where(alive, drawn.reshape(-1), pad_id)
        tokens[place, step] = drawn
        log_prob[place, step] = torch.where(alive, values, 0.0)
        mask[place, step] = alive
        alive = alive & ~torch.isin(drawn, ends)
        left = int(alive.sum())
        if step + 1 == length or left == 0:
            break
        if left <= _DROP_AT * len(alive):  # finished rows are dropped, not at every step
            chosen = alive.nonzero().squeeze(-1)
            for reading in readings:
                reading.select(chosen)
            place, alive = place[chosen], alive[chosen]
            attention, drawn = attention[chosen], drawn[chosen]
        seen = attention[:, : prompts.ids.shape[1] + step + 1]
        logits = _next_logits(mixture, readings, drawn, seen)
        numbers = uniforms[:, :, step + 1].reshape(rows)[place].unsqueeze(-1)
    shape = (num_prompts, num_responses, length)
    return tokens.view(shape), mask.view(shape), log_prob.view(shape)


def _next_logits(
    mixture: Sequence[Term], readings: Sequence[Reading], ids: torch.Tensor, attention: torch.Tensor
) -> torch.Tensor:
    """The mixture's logits [rows, V] behind one more token."""
    logits = []
    for term, reading in zip(mixture, readings, strict=True):
        with term.playing() as model:
            logits.append(reading.next(model, ids, attention))
    return _combined(mixture, logits)


def _combined(mixture: Sequence[Term], logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """sum_m coefficient_m * logits_m in float32, [rows, V]."""
    if len(mixture) == 1 and mixture[0].coefficient == 1.0:
        return logits[0].float()
    parts = [term.coefficient * values.float() for term, values in zip(mixture, logits, strict=True)]
    return torch.stack(parts).sum(0)
