"""How a check fails: one sentence, as an assertion that a test runner shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class CheckFailed(AssertionError):
    """A part breaks its contract; the sentence says how."""


def require(holds: Any, sentence: str) -> None:
    """Raise `CheckFailed` with a sentence unless something holds.

    Raises:
        CheckFailed: It does not.
    """
    if not bool(holds):
        raise CheckFailed(sentence)


def same(one: Any, other: Any) -> bool:
    """Tell whether two nested values are equal, NaN to NaN, arrays by type and shape too."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    left, right = np.asarray(one), np.asarray(other)
    if left.shape != right.shape or left.dtype.kind != right.dtype.kind:
        return False
    return bool(np.array_equal(left, right, equal_nan=left.dtype.kind in "fc"))


def frozen(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an observation's values as arrays that refuse to be written into."""
    values = {name: np.array(value) for name, value in observation.items()}
    for value in values.values():
        value.flags.writeable = False
    return values
