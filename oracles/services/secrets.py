"""Tokens that come from the environment or from a file, and are written nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

_EXPECTED: Final = "expected {env: NAME} or {file: PATH}, where the token stands"


class Secret:
    """A token that shows itself only to whoever calls `reveal`; in logs, messages and pickles it does not stand."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the token."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """A text, such as somebody's error message, in which the token does not stand."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled; pickle where it stands")


def read_secret(name: str, place: object) -> Secret | None:
    """The token that stands at a place.

    Args:
        name: What the user knows the setting by.
        place: `{"env": NAME}`, `{"file": PATH}`, or None for no token.

    Raises:
        UserError: The place is given otherwise (a token itself would be saved with the config), or is empty.
    """
    if place is None:
        return None
    if not isinstance(place, Mapping) or len(place) != 1 or not set(place) <= {"env", "file"}:
        # What was given may be the token, so it is not repeated.
        raise UserError(f"{name} is given as {type(place).__name__}, {_EXPECTED}: configs are saved and shared")
    (kind, where), *_ = place.items()
    where = checks.text(f"{name}.{kind}", where)
    if kind == "env":
        value = os.environ.get(where, "")
        missing = f"the environment variable {where!r}, which {name} names, is not set or empty; export it"
    else:
        value, missing = _first_line(Path(where).expanduser()), f"{name} names {where!r}, a file without a token"
    if not value.strip():
        raise UserError(missing)
    if not value.strip().isascii() or not value.strip().isprintable() or " " in value.strip():
        raise UserError(f"the token that {name} names holds spaces or characters that no header can; correct it")
    return Secret(value.strip())


def _first_line(path: Path) -> str:
    try:
        return next(iter(path.read_text(encoding="utf-8").splitlines()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the token in {str(path)!r} ({error}); correct the path or the file") from error
