"""What becomes of rows with a fault, and how the user hears of it; not for faults of files, columns or scores."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from duelenv.data.tables import Place
from duelenv.ground.errors import UserError

OnFault = Literal["error", "drop", "keep"]
ON_FAULT = ("error", "drop", "keep")


def is_dropped(policy: OnFault, setting: str, fault: str) -> bool:
    """Return whether a row with a fault is dropped, where it is not an error.

    Args:
        policy: What the user asked for.
        setting: Name of the setting that says so.
        fault: The place and what is wrong there.

    Raises:
        UserError: The policy is "error".
    """
    if policy == "error":
        raise UserError(f"{fault}; remove it, or pass {setting}='drop' or {setting}='keep'")
    return policy == "drop"


def require_prompt(text: str, name: str, place: Place) -> None:
    """Check that a prompt is not blank.

    Raises:
        UserError: It is.
    """
    if not text.strip():
        raise UserError(f"{place} has an empty {name!r}; a response needs a prompt: remove the row")


def announce(path: Path, notes: Sequence[str]) -> None:
    """Warn of what was dropped or guessed, at the line that called the package, from wherever inside it."""
    package = __name__.partition(".")[0] + "."
    frame, level = inspect.currentframe(), 1
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(package):
        frame, level = frame.f_back, level + 1
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=level)
