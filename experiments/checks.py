"""Checks of what a user writes in a config; each returns the value, or says in one sentence what was expected.

Not for settings of a world, an oracle or an agent: they are checked by whoever receives them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from duelenv.oracles.errors import UserError

__all__ = ["choices", "flag", "mapping", "number", "refuse_unknown", "text", "whole_number"]


def choices(value: object, known: Iterable[object]) -> str:
    """The tail of an error sentence: the nearest known name, or all of them.

    Args:
        value: What the user wrote.
        known: The names that would have been accepted.
    """
    names = sorted(str(name) for name in known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    listing = f"choose from {', '.join(names)}" if names else "none can be set here"
    return f"did you mean {near[0]!r}? ({listing})" if near else listing


def refuse_unknown(section: str, given: Iterable[object], known: Iterable[object]) -> None:
    """Raises for the first key that is not known.

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


def mapping(key: str, value: object) -> dict[str, Any]:
    """`value` as a mapping with string keys; null is the empty mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key!r} is {value!r}, expected a mapping of settings")
    for name in value:
        if not isinstance(name, str):
            raise UserError(f"{key!r} has the key {name!r}, expected a word; quote it if it is meant as text")
    return dict(value)


def whole_number(key: str, value: object, minimum: int) -> int:
    """`value` as a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{key!r} is {value!r}, expected a whole number of at least {minimum}")
    return value


def number(key: str, value: object, minimum: float) -> float:
    """`value` as a finite number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < minimum:
        raise UserError(f"{key!r} is {value!r}, expected a number of at least {minimum}")
    return float(value)


def text(key: str, value: object) -> str:
    """`value` as text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key!r} is {value!r}, expected a word or a path")
    return value


def flag(key: str, value: object) -> bool:
    """`value` as true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{key!r} is {value!r}, expected true or false")
    return value
