"""What of a lesson goes through a model at once: so many items, so many tokens, or what the memory holds.

Items stay in their order, so that a piece is a slice. A piece is as long as its longest prompt and its longest response
times its items, padding included; long responses make small pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.policies.activations import PassSize

#: Cuts consecutive items into slices.
Cut: TypeAlias = Callable[[range], list[slice]]


@dataclass(frozen=True)
class Passes:
    """How items go through a model.

    Attributes:
        count: How many there are.
        cut: What cuts them.
    """

    count: int
    cut: Cut


@dataclass(frozen=True)
class Extent:
    """How long M items are.

    Attributes:
        prompts: Tokens of each item's prompt, int64 [M].
        lengths: Tokens of its longest response, int64 [M].
        responses: J, of each item.
    """

    prompts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    responses: int

    @classmethod
    def of(cls, prompts: ArrayLike, mask: NDArray[np.int8]) -> Extent:
        """Measure items.

        Args:
            prompts: Tokens of each prompt, [M].
            mask: [M, J, L], 1 on the tokens of responses.
        """
        used = (mask != 0).any(1)  # [M, L]
        longest = np.where(used.any(1), used.shape[1] - used[:, ::-1].argmax(1), 1)
        return cls(np.asarray(prompts, np.int64), longest.astype(np.int64), mask.shape[1])

    def __len__(self) -> int:
        return len(self.prompts)

    def size(self, part: slice | range) -> PassSize:
        """Return the size of a pass over consecutive items, at least one."""
        part = slice(part.start, part.stop)
        prompts, lengths = self.prompts[part], self.lengths[part]
        return PassSize(len(prompts), int(prompts.max()), self.responses, int(lengths.max()))


def in_pieces_of(size: int) -> Cut:
    """Return a cut into pieces of at most `size` items."""

    def cut(items: range) -> list[slice]:
        return [slice(start, min(start + size, items.stop)) for start in range(items.start, items.stop, size)]

    return cut


def in_pieces_that(fit: Callable[[PassSize], bool], extent: Extent, most: int) -> Cut:
    """Return a cut into the fewest pieces that fit, equal ones where those fit too; an item that does not goes alone.

    Args:
        fit: Whether a pass may be that large; what is smaller in every respect fits where it does.
        extent: Of all items.
        most: Items of a piece at most.
    """

    def cut(items: range) -> list[slice]:
        found = list(_as_long_as_they_fit(items, fit, extent, most))
        if len(found) < 2:
            return found
        even = in_pieces_of(-(-len(items) // len(found)))(items)
        return even if all(fit(extent.size(part)) for part in even) else found

    return cut


def _as_long_as_they_fit(items: range, fit: Callable[[PassSize], bool], extent: Extent, most: int) -> Iterable[slice]:
    start = items.start
    for stop in range(items.start + 1, items.stop):
        if stop - start >= most or not fit(extent.size(range(start, stop + 1))):
            yield slice(start, stop)
            start = stop
    if start < items.stop:
        yield slice(start, items.stop)
