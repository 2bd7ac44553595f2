"""What a config is from Python, in the plain containers that YAML and JSON have; refuses nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["in_plain"]


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
