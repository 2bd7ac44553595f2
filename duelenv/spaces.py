"""Gymnasium spaces for text: any Unicode string, and arrays of them.

Gymnasium's own `Text` refuses spaces, newlines and the empty string, all of which language models write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

_SAMPLE_ALPHABET = np.array(list("abcdefghijklmnopqrstuvwxyz    .,\n"))
_SAMPLE_LENGTH = 24


class Unicode(Space[str]):
    """The space of all strings, the empty one included."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return a random string of up to 24 letters, spaces, stops and newlines."""
        length = int(self.np_random.integers(_SAMPLE_LENGTH + 1))
        return "".join(self.np_random.choice(_SAMPLE_ALPHABET, size=length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __repr__(self) -> str:
        return "Unicode()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode)


class UnicodeArray(Space[NDArray[np.object_]]):
    """Object arrays of strings with a fixed shape.

    Args:
        shape: The array's shape, such as (K,) for one prompt's responses.
        seed: Seed of `sample`.
    """

    def __init__(self, shape: Sequence[int], seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=tuple(shape), dtype=np.dtype(object), seed=seed)
        self._member = Unicode()

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.object_]:
        """Return an array of random strings."""
        array = np.full(_shape(self), "", dtype=object)
        self._member._np_random = self.np_random
        for index in np.ndindex(array.shape):
            array[index] = self._member.sample()
        return array

    def contains(self, x: Any) -> bool:
        return (
            isinstance(x, np.ndarray)
            and x.dtype == object
            and x.shape == self.shape
            and all(isinstance(text, str) for text in x.flat)
        )

    def to_jsonable(self, sample_n: Iterable[NDArray[np.object_]]) -> list[Any]:
        return [sample.tolist() for sample in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[NDArray[np.object_]]:
        return [np.array(sample, dtype=object).reshape(self.shape) for sample in sample_n]

    def __repr__(self) -> str:
        return f"UnicodeArray({self.shape})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeArray) and self.shape == other.shape


@batch_space.register(Unicode)
def _batch_unicode(space: Unicode, n: int = 1) -> UnicodeArray:
    return UnicodeArray((n,))


@batch_space.register(UnicodeArray)
def _batch_unicode_array(space: UnicodeArray, n: int = 1) -> UnicodeArray:
    return UnicodeArray((n, *_shape(space)))


@create_empty_array.register(Unicode)
def _empty_unicode(space: Unicode, n: int | None = 1, fn: Any = np.zeros) -> Any:
    return "" if n is None else np.full((n,), "", dtype=object)


@create_empty_array.register(UnicodeArray)
def _empty_unicode_array(space: UnicodeArray, n: int | None = 1, fn: Any = np.zeros) -> Any:
    return np.full(_shape(space) if n is None else (n, *_shape(space)), "", dtype=object)


@concatenate.register(Unicode)
@concatenate.register(UnicodeArray)
def _concatenate_text(space: Space[Any], items: Any, out: NDArray[np.object_]) -> Any:
    for row, item in enumerate(items):
        out[row] = item
    return out


def _iterate_text(space: UnicodeArray, items: NDArray[np.object_]) -> Iterator[Any]:
    return iter(items)


# Called plainly: Gymnasium annotates the fallback with a type variable that no registration fits.
iterate.register(UnicodeArray, _iterate_text)


def _shape(space: UnicodeArray) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape
