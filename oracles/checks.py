"""Checks of what a user passes as a setting, shared by the oracles; not for internal state.

Each returns the value in the form the caller stores, or raises `UserError` with one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

from duelenv.oracles.errors import UserError


def number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high].

    Raises:
        UserError: `value` is not a number, not finite or out of range.
    """
    expected = _range_text("a number", low, high)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    result = float(value)
    if not (math.isfinite(result) and low <= result <= high):
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    return result


def integer(name: str, value: object, *, low: int) -> int:
    """An integer not below `low`.

    Raises:
        UserError: `value` is not an integer or is too small.
    """
    expected = f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    result = int(value)
    if result < low:
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    return result


def flag(name: str, value: object) -> bool:
    """True or false; no other value stands for either.

    Raises:
        UserError: `value` is anything else.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}, expected true or false; change {name}")
    return value


def words(name: str, value: object) -> tuple[str, ...]:
    """A non-empty list of single words, lower case, as a tuple.

    Raises:
        UserError: `value` is no list, is empty, or holds something that is not one word.
    """
    expected = "a non-empty list of single words"
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    result = tuple(value)
    if not result:
        raise UserError(f"{name} is empty, expected {expected}; change {name}")
    for word in result:
        if not isinstance(word, str) or len(word.split()) != 1:
            raise UserError(f"{name} contains {word!r}, expected {expected}; change {name}")
    return tuple(word.lower() for word in result)


def _range_text(kind: str, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"{kind} in [{low:g}, {high:g}]"
    if math.isfinite(low):
        return f"{kind} of at least {low:g}"
    if math.isfinite(high):
        return f"{kind} of at most {high:g}"
    return f"a finite {kind.split()[-1]}"
