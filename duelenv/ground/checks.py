"""Checks of what a user passes, shared by all folders; not for internal state.

Each returns the value in the form that the caller stores, or raises `UserError` with one sentence. `name` is what the
user knows the value by, as it is to stand in that sentence.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError


def number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Check a finite number within bounds.

    Args:
        name: What the user knows it by.
        value: What was given.
        low: Least value that is allowed.
        high: Largest value that is allowed.
        above: Open lower bound in place of `low`.
        below: Open upper bound in place of `high`.

    Raises:
        UserError: `value` is not a number, not finite or out of range.
    """
    lower, upper = low if above is None else above, high if below is None else below
    result = math.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            result = float(value)
        except OverflowError:  # an integer beyond every float
            result = math.inf
    inside = (result > lower if above is not None else result >= lower) and (
        result < upper if below is not None else result <= upper
    )
    if not (math.isfinite(result) and inside):
        expected = _range_text(lower, upper, above is not None, below is not None)
        raise UserError(f"{name} is {_shown(value)}, expected {expected}; change {name}")
    return result


def integer(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Check an integer not below `low`, nor above `high` where that is given.

    Raises:
        UserError: `value` is not an integer or is out of range.
    """
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    if not whole or int(value) < low or (high is not None and int(value) > high):  # type: ignore[call-overload]
        expected = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
        raise UserError(f"{name} is {_shown(value)}, expected {expected}; change {name}")
    return int(value)  # type: ignore[call-overload]


def flag(name: str, value: object) -> bool:
    """Check that a value is true or false; no other value stands for either.

    Raises:
        UserError: `value` is anything else.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}, expected true or false; change {name}")
    return value


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """Check one of the known words.

    Raises:
        UserError: `value` is none of them.
    """
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise UserError(f"{name}={value!r} is unknown: {choices(value, known)}")
    return value


def text(name: str, value: object) -> str:
    """Check text that is not empty.

    Raises:
        UserError: `value` is no text, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{name} is {value!r}, expected a word or a path; change {name}")
    return value


def words(name: str, value: object) -> tuple[str, ...]:
    """Read a non-empty list of single words, lower case, as a tuple.

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


def mapping(name: str, value: object, of: str = "settings") -> dict[str, Any]:
    """Read a mapping with string keys, as a new dict; None is the empty mapping.

    Args:
        name: In error messages.
        value: What the user gave.
        of: What it holds, in error messages.

    Raises:
        UserError: `value` is no mapping, or a key is not text.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{name} is {value!r}, expected a mapping of {of}; change {name}")
    for key in value:
        if not isinstance(key, str):
            raise UserError(f"{name} has the key {key!r}, expected a word; quote it if it is meant as text")
    return dict(value)


def near(value: object, known: Iterable[object]) -> list[str]:
    """Return up to three known names that a misspelt one may mean, the nearest first."""
    return difflib.get_close_matches(str(value), [str(name) for name in known], cutoff=0.6)


def choices(value: object, known: Iterable[object]) -> str:
    """Write the tail of an error sentence: the nearest known name, or all of them.

    Args:
        value: What the user wrote.
        known: The names that would have been accepted.
    """
    names = sorted(str(name) for name in known)
    listing = f"choose from {', '.join(names)}" if names else "none can be set here; leave it out"
    meant = near(value, names)
    return f"did you mean {meant[0]!r}? ({listing})" if meant else listing


def unknown_name(kind: str, name: object, known: Iterable[object], *, extensible: bool = False) -> UserError:
    """Make the error about a name that is none of those known: one shape for whatever a config names.

    Args:
        kind: What it should be the name of, such as "oracle".
        name: What the user wrote.
        known: The names that would have been accepted.
        extensible: Whether a user's own file can register one.
    """
    own = "; one of your own is known once 'modules' names the file that registers it" if extensible else ""
    return UserError(f"{kind} {name!r} is unknown: {choices(name, known)}{own}")


def refuse_unknown(section: str, given: Iterable[object], known: Iterable[object]) -> None:
    """Refuse the first key that is not known.

    Args:
        section: Where the keys stand, for the sentence; empty at the top level.
        given: The keys.
        known: Those that would have been accepted.

    Raises:
        UserError: A key is not known.
    """
    known = tuple(known)
    for key in given:
        if key not in known:
            where = f" in {section!r}" if section else ""
            raise UserError(f"Unknown setting {key!r}{where}: {choices(key, known)}")


# Arrays ---------------------------------------------------------------------------------------------------------------


def real_array(values: object, complain: Callable[[str], UserError]) -> NDArray[np.float64]:
    """Check real numbers that somebody's function returned, as float64 of the same shape.

    Sequences, arrays and tensors (on any device, in any precision, with or without a gradient) are taken. What NumPy
    would turn into numbers on the quiet is not: text, dates, complex numbers, None, and masked entries, whose masked
    value nobody meant.

    Args:
        values: What came.
        complain: Makes the error from a description of what came instead.

    Raises:
        UserError: As `complain` makes it.
    """
    what = f"{type(values).__name__} {str(values)[:60]!r}"
    if np.ma.is_masked(values) or (isinstance(values, list | tuple) and any(item is np.ma.masked for item in values)):
        raise complain("an array with masked entries")
    try:
        array = np.asarray(_plain(values))
        # Objects may be numbers all the same, such as Fraction or 10**30.
        numeric = array.dtype.kind in "biuf" or (
            array.dtype.kind == "O" and all(isinstance(item, Real) for item in array.ravel())
        )
        if numeric:
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # ragged, or what no float can hold
        raise complain(what) from None
    raise complain(what if array.dtype.kind in "OUS" else f"{what} of {array.dtype}")


def _plain(values: Any) -> Any:
    """Take tensors, and lists of them, to where NumPy can read them."""
    if hasattr(values, "detach"):
        if values.is_complex():
            raise TypeError("complex numbers are not real ones")
        return values.detach().double().cpu().numpy()
    if isinstance(values, list | tuple) and any(hasattr(item, "detach") for item in values):
        return [_plain(item) for item in values]
    return values


def _shown(value: object) -> str:
    """Write a value as it stands in a sentence."""
    if isinstance(value, Integral) and abs(int(value)) > 10**30:
        return f"an integer of {int(value).bit_length()} bits"
    return repr(value)


def _range_text(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if math.isfinite(low):
        return f"a number above {low:g}" if open_low else f"a number of at least {low:g}"
    if math.isfinite(high):
        return f"a number below {high:g}" if open_high else f"a number of at most {high:g}"
    return "a finite number"
