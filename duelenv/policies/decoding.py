"""The sampling loop: token by token, many responses at once; not for drawing one token, which is `sampling`.

How the models read what was drawn is `reading`. `generate()` is the correctness reference for this loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.passes import Shortcuts
from duelenv.policies.reading import Reading, Step, begin
from duelenv.policies.sampling import draw

# Dropping finished rows from a batch copies its cache; done when at most this share of them still runs.
_DROP_AT: Final = 0.75
# To know how many still run, the host waits for the device: on a CPU for nothing, elsewhere not at every token.
_LOOK_EVERY: Final = 8


@dataclass(frozen=True)
class Term:
    """One model's part in the next-token logits sum_m coefficient_m * logits_m."""

    coefficient: float
    playing: Callable[[], AbstractContextManager[Any]]
    """Lends the model for the duration of a pass: two terms may be two adapters of one model."""


def uniform_numbers(
    given: ArrayLike | None, generator: torch.Generator | None, shape: tuple[int, int, int], *, needed: bool
) -> torch.Tensor:
    """Find the numbers that decide tokens, [B, K, L] in [0, 1): given, the generator's, or zeros if none are needed.

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


class Drawn(NamedTuple):
    """K responses to each of B prompts.

    Attributes:
        tokens: int64 [B, K, L].
        mask: bool [B, K, L], the end token included.
        log_prob: float32 [B, K, L], nats, at temperature 1; 0 off the mask.
        hidden: float32 [B, K, h], the mean of the last hidden layer over each response; None where not asked for.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    log_prob: torch.Tensor
    hidden: torch.Tensor | None


def draw_responses(
    mixture: Sequence[Term],
    prompts: Prompts,
    uniforms: torch.Tensor,
    temperature: float,
    shortcuts: Shortcuts,
    *,
    end_ids: Sequence[int],
    pad_id: int,
    hidden: bool = False,
) -> Drawn:
    """Draw K responses to each of B prompts.

    Args:
        mixture: the models whose logits are added.
        prompts: B prompts, on the models' device.
        uniforms: [B, K, L] in [0, 1), the number that decides each token.
        temperature: 0 takes the most probable token.
        shortcuts: what the models allow.
        end_ids: tokens that end a response.
        pad_id: what follows the end.
        hidden: whether to keep the mean of the last hidden layer, of one model. The last token of a response is read
            then as well.

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
    totals = None
    # Of the rows still run: where their results go, and whether they go on behind the token just drawn.
    place = torch.arange(rows, device=device)
    alive = torch.ones(rows, dtype=torch.bool, device=device)
    readings = []
    for term in mixture:
        with term.playing() as model:
            readings.append(begin(model, prompts, num_responses, length, shortcuts))
    logits = _combined(mixture, [reading.first for reading in readings])  # [B, V]
    numbers = uniforms[:, :, 0]  # the first draw: B distributions, K draws from each
    look_every = _look_every(device)
    for step in range(length):
        drawn, values = (each.reshape(-1) for each in draw(logits, numbers, temperature))
        look = step % look_every == 0
        if look and values.isnan().any():
            raise UserError(
                "the model gives logits that are not numbers, so that no token can be drawn; check its weights, lower "
                "the learning rate, or load it with dtype='float32'"
            )
        drawn = torch.where(alive, drawn, pad_id)
        tokens[place, step] = drawn
        log_prob[place, step] = torch.where(alive, values, 0.0)
        mask[place, step] = alive
        read = alive if hidden else None  # a token that ends its response is read for its hidden layer alone
        alive = alive & ~torch.isin(drawn, ends)
        last = step + 1 == length
        if last and not hidden:
            break
        running = alive if read is None else read
        if look:
            left = int(running.sum())
            if left == 0:
                break
            if left <= _DROP_AT * len(running):  # finished rows are dropped, not at every step
                chosen = running.nonzero().squeeze(-1)
                for reading in readings:
                    reading.select(chosen)
                place, alive, drawn = place[chosen], alive[chosen], drawn[chosen]
                read = None if read is None else read[chosen]
        steps = _read(mixture, readings, drawn, hidden=hidden)
        if read is not None:
            states = steps[0].hidden
            assert states is not None
            if totals is None:
                totals = torch.zeros((rows, states.shape[-1]), device=device)
            totals[place] += torch.where(read[:, None], states.float(), 0.0)
        if last:
            break
        logits = _combined(mixture, [step.logits for step in steps])
        numbers = uniforms[:, :, step + 1].reshape(rows)[place].unsqueeze(-1)
    if totals is not None:
        totals = (totals / mask.sum(-1, keepdim=True)).view(num_prompts, num_responses, -1)
    shape = (num_prompts, num_responses, length)
    return Drawn(tokens.view(shape), mask.view(shape), log_prob.view(shape), totals)


def _look_every(device: torch.device) -> int:
    """Choose at every how many tokens the host asks which rows still run."""
    return 1 if device.type == "cpu" else _LOOK_EVERY


def _read(mixture: Sequence[Term], readings: Sequence[Reading], ids: torch.Tensor, *, hidden: bool) -> list[Step]:
    """Read what each model of the mixture knows behind one more token."""
    steps = []
    for term, reading in zip(mixture, readings, strict=True):
        with term.playing() as model:
            steps.append(reading.next(model, ids, hidden=hidden))
    return steps


def _combined(mixture: Sequence[Term], logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum coefficient_m * logits_m over m in float32, [rows, V]."""
    if len(mixture) == 1 and mixture[0].coefficient == 1.0:
        return logits[0].float()
    return torch.stack([term.coefficient * values.float() for term, values in zip(mixture, logits, strict=True)]).sum(0)
