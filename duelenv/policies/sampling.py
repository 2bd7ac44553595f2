"""Draws tokens from next-token logits; not for running models, which is `decoding`.

Every draw inverts a cumulative distribution at a uniform number that the caller supplies. So a draw belongs to its
uniform number alone: it does not depend on the other rows of a batch or on any generator's state. On a CPU it also
costs less than `torch.multinomial`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

# Larger vocabularies are searched in two levels, blocks of tokens first, which spares a double-precision array of the
# logits' size. In time it breaks even at about this size (CPU, 32 rows) and gains a tenth at 50k.
_BLOCKED_FROM = 8192
_BLOCK = 512


@dataclass(frozen=True)
class Samples:
    """Responses drawn by a policy: B prompts, K responses each, at most L tokens.

    Attributes:
        tokens: int64 [B, K, L], token ids; after a response's end the padding token.
        mask: int8 [B, K, L], 1 on the response's tokens, its end-of-sequence token included.
        log_prob: float32 [B, K], nats, summed over the mask, at temperature 1 over the full vocabulary, under the
            distribution that drew the response (for PILAF's sources the mixture of two models); NaN where a sampler
            drew that does not say.
        texts: object [B, K], the decoded strings without special tokens.
        hidden: float32 [B, K, h], the mean over the mask of the last hidden layer of the model that drew; None where it
            was not asked for, where two models drew, or where it cannot be read.
        version: of the weights of the source "policy" that drew; None of other sources.
    """

    tokens: NDArray[np.int64]
    mask: NDArray[np.int8]
    log_prob: NDArray[np.float32]
    texts: NDArray[np.object_]
    hidden: NDArray[np.float32] | None = None
    version: int | None = None


def draw(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Invert the cumulative distribution softmax(logits / temperature) at the given uniform numbers.

    Args:
        logits: float32 [M, V]. Entries of minus infinity are never drawn.
        uniforms: [M, k] in [0, 1), float64 where the device has it.
        temperature: above 0; or 0, which takes the most probable token whatever the uniform numbers.

    Returns:
        Token ids int64 [M, k], the smallest v with CDF(v) > u, and their log-probs float32 [M, k], nats, at temperature
        1. Where a logit is not a number the ids mean nothing, and the log-probs are not numbers either.
    """
    if temperature == 0:
        tokens = logits.argmax(-1, keepdim=True).expand(-1, uniforms.shape[1])
        return tokens, token_log_prob(logits.repeat_interleave(tokens.shape[1], 0), tokens.flatten()).view(tokens.shape)
    if temperature == 1:
        probabilities = torch.softmax(logits, dim=-1)  # [M, V]
        tokens = _search(probabilities, uniforms)
        return tokens, probabilities.gather(-1, tokens).log()
    # Shifted before the division, so that a temperature near 0 cannot overflow to inf - inf.
    tempered = (logits - logits.amax(-1, keepdim=True)) / temperature
    tokens = _search(torch.softmax(tempered, dim=-1), uniforms)
    return tokens, logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)


def _search(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Find the first token whose cumulative probability [M, V] exceeds a uniform number [M, k]; int64 [M, k]."""
    rows, vocabulary = probabilities.shape
    if vocabulary <= _BLOCKED_FROM:
        return _invert(probabilities.to(uniforms.dtype).cumsum(-1), uniforms)[0]
    spare = -vocabulary % _BLOCK
    blocks = torch.nn.functional.pad(probabilities, (0, spare)).view(rows, -1, _BLOCK)  # [M, V / 512, 512]
    block, rest = _invert(blocks.sum(-1, dtype=uniforms.dtype).cumsum(-1), uniforms)  # [M, k] each
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, _BLOCK))  # [M, k, 512]
    cumulative = inside.to(uniforms.dtype).cumsum(-1).flatten(0, 1)  # [M * k, 512]
    # `rest` is the uniform's place inside its block, as a mass; _invert wants a share of the block's mass.
    share = rest.reshape(-1, 1) / cumulative[:, -1:]
    offset = _invert(cumulative, share)[0].view_as(block)
    return (block * _BLOCK + offset).clamp_max(vocabulary - 1)


def _invert(cumulative: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the first index whose cumulative mass exceeds share * total mass, and the mass left over inside that index.

    cumulative [M, V], shares [M, k] -> int64 [M, k], [M, k].
    """
    total = cumulative[:, -1:]
    # Kept below the total: rounding up to it would land on a token of probability 0 at the end of the vocabulary.
    mass = torch.minimum(shares * total, torch.nextafter(total, torch.zeros_like(total)))
    # Where a sum is not a number no index is found.
    index = torch.searchsorted(cumulative, mass.contiguous(), right=True).clamp_max(cumulative.shape[-1] - 1)
    before = torch.where(index > 0, cumulative.gather(1, (index - 1).clamp_min(0)), 0.0)
    return index, mass - before


def token_log_prob(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Compute log softmax(logits)[token].

    Args:
        logits: [n, V], any floating type; the reduction is in float32.
        tokens: int64 [n].

    Returns:
        float32 [n], nats.
    """
    return -torch.nn.functional.cross_entropy(logits.float(), tokens, reduction="none")
