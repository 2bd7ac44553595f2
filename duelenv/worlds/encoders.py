"""What a belief sees of a response: blocks of features side by side, of the start model, the words, or the user's own.

The hidden layer that predicts the next token says little of the words that were said: of the toy policy's responses,
the mean of the last layer tells by a linear function 1 % of the variance of whether "green" is among the words, and the
words themselves 98 %. A belief over it alone cannot hold what an oracle may reward; one over words alone knows nothing
of what they mean.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

Encoder = Callable[[list[str], list[str]], ArrayLike]
"""A function (prompts, responses) -> features [n, d] of n responses, each to the prompt in the same place."""

_WORD: Final = re.compile(r"\w+|[^\w\s]")
#: Coordinates of a word: with fewer, two words meet in all of them too often.
_PLACES: Final = 4
#: A word that one of two responses of ten words has is then worth one deviation of a utility with prior N(0, I).
_SCALE: Final = 3.0


class HashedWords:
    """Words as signed sums of few hashed coordinates, so that linear utilities of words are linear in d features.

    A word w is a vector e_w of length 1 with four entries +-1/2 in places that its CRC-32 chooses (count sketch,
    Charikar et al. 2002; feature hashing, arXiv 0902.2206): e_v . e_w is 0 on average over words and about 1 / d in
    variance. A response of n words is 3 / sqrt(n) sum_w (1 + log c_w) e_w, c_w how often it says w, and before it log(1
    + n) and its square, so that a utility can have a best length. Case does not count, punctuation marks are words.

    Args:
        dim: d, at least 8, the two of length included.
    """

    def __init__(self, dim: int = 128) -> None:
        self.dim = checks.integer("dim", dim, low=8)

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float32]:
        """Return features float32 [n, d] of n responses; the prompts are not looked at."""
        counted = [Counter(_WORD.findall(response.lower())) for response in responses]
        features = np.zeros((len(responses), self.dim), np.float32)
        words = features[:, 2:]
        for nth in zip_longest(*(counts.items() for counts in counted)):  # every first word, then every second one
            rows, said = zip(*((row, word) for row, word in enumerate(nth) if word), strict=True)
            weights = 1.0 + np.log([count for _, count in said])
            words[list(rows)] += weights[:, None] * np.array([_vector(word, self.dim - 2) for word, _ in said])
        totals = np.array([counts.total() for counts in counted])
        words *= (_SCALE / np.sqrt(np.maximum(totals, 1)))[:, None]
        features[:, 0], features[:, 1] = np.log1p(totals), np.log1p(totals) ** 2
        return features


@lru_cache(maxsize=8_192)  # of 128 numbers each, 4 MB
def _vector(word: str, dim: int) -> NDArray[np.float32]:
    """Return a word's vector of length 1, float32 [dim]."""
    generator = np.random.default_rng(zlib.crc32(word.encode()))
    vector = np.zeros(dim, np.float32)
    vector[generator.choice(dim, _PLACES, replace=False)] = generator.choice([-1.0, 1.0], _PLACES) / np.sqrt(_PLACES)
    return vector


START: Final = "start"
"""The mean hidden state of a response under the frozen start model, which drawing gives away for nothing."""

ENCODERS: Registry[Callable[[], Encoder]] = Registry("encoder", {"words": HashedWords}, reserved=(START,))

DEFAULT: Final = (START, "words")
"""What is said, and what the model makes of it."""

Block = str | Encoder
"""`START`, or an encoder."""


def read_features(given: Block | Sequence[Block]) -> tuple[Block, ...]:
    """Return blocks of features from what a user gave: a name, an encoder, or a list of these.

    Raises:
        UserError: No such name, a block that comes twice, or none.
    """
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    names = [block for block in listed if isinstance(block, str)]
    if not listed or len(set(names)) < len(names):
        raise UserError(f"features={given!r} names {'no' if not listed else 'one'} block, expected each block once")
    return tuple(_read_block(block) for block in listed)


def _read_block(block: Block) -> Block:
    if callable(block) or block == START:
        return block
    return ENCODERS[block]()


def side_by_side(
    blocks: Sequence[Block],
    states: Callable[[], NDArray[np.float32]],
    encoded: Callable[[Encoder], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return the features of some responses, float32 [..., d].

    Beside others a hidden state is divided by its length, so that it counts as much as one word: of large models it
    is as long as hundreds. A state of zeros stays one.

    Args:
        blocks: Which, in order.
        states: Gives the responses' hidden states [..., h] under the start model.
        encoded: Gives what an encoder makes of them.
    """
    if len(blocks) == 1:
        (only,) = blocks
        return encoded(only) if callable(only) else states()
    return np.concatenate([encoded(one) if callable(one) else _of_length_one(states()) for one in blocks], axis=-1)


def _of_length_one(states: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(states, axis=-1, keepdims=True)
    return states / np.maximum(lengths, np.finfo(np.float32).tiny)
