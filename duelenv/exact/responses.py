"""All responses that a policy can give, listed; none of them is scored here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

MOST_RESPONSES: Final = 200_000
"""More are refused: they would take minutes of every update."""


@dataclass(frozen=True)
class Responses:
    """All M responses of at most L tokens, in order of their tokens.

    Attributes:
        tokens: int64 [M, L].
        mask: int8 [M, L], 1 on the response's tokens.
        texts: object [M].
    """

    tokens: NDArray[np.int64]
    mask: NDArray[np.int8]
    texts: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.texts)


def count_responses(vocabulary_size: int, num_ends: int, max_new_tokens: int) -> int:
    """Return how many responses there are: those ended by one of `num_ends` tokens, and those cut at the length."""
    going_on = vocabulary_size - num_ends
    return sum(going_on**length * num_ends for length in range(max_new_tokens)) + going_on**max_new_tokens


def enumerate_responses(policy: CausalLMPolicy) -> Responses:
    """List every response that the policy can give; their probabilities given a prompt sum to 1.

    Raises:
        UserError: There are more than 200,000.
    """
    length, vocabulary, ends = policy.max_new_tokens, policy.vocabulary_size, policy.end_ids
    count = count_responses(vocabulary, len(ends), length)
    if count > MOST_RESPONSES:
        raise UserError(
            f"{count:.3g} responses of up to {length} tokens from a vocabulary of {vocabulary} cannot be listed, "
            f"at most {MOST_RESPONSES:,} can; lower max_new_tokens or build a model with a smaller vocabulary"
        )
    going_on = np.setdiff1d(np.arange(vocabulary), ends)
    prefixes = np.zeros((1, 0), np.int64)
    listed: list[NDArray[np.int64]] = []
    for position in range(length):
        last = position == length - 1
        following = np.arange(vocabulary) if last else np.array(ends, np.int64)
        listed.append(_extend(prefixes, following))
        prefixes = _extend(prefixes, going_on)
    tokens = np.full((count, length), ends[0] if ends else 0, np.int64)
    mask = np.zeros((count, length), np.int8)
    start = 0
    for block in listed:
        stop = start + len(block)
        tokens[start:stop, : block.shape[1]] = block
        mask[start:stop, : block.shape[1]] = 1
        start = stop
    return Responses(tokens, mask, policy.decode(tokens, mask))


def _extend(prefixes: NDArray[np.int64], following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return every prefix [P, l] followed by every token [F], as [P * F, l + 1]."""
    repeated = np.repeat(prefixes, len(following), axis=0)
    return np.column_stack([repeated, np.tile(following, len(prefixes))])
