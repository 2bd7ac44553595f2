"""What is written, as plain values: a config from Python as YAML has it, words of a command line; refuses nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["in_plain", "number_in"]


def in_plain(value: Any) -> Any:
    """Write numbers and arrays of NumPy, ranges, tuples and paths as YAML has them, inside mappings and lists too.

    Anything else is left as it is, for whoever reads the setting to take or refuse.
    """
    if isinstance(value, Mapping):
        return {in_plain(key): in_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [in_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return in_plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def number_in(text: str) -> object:
    """Read a word as a number, or else leave it as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
