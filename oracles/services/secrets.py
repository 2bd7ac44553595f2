"""Tokens that come from the environment or from a file, and are written nowhere."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from duelenv.ground import checks
from duelenv.ground.addresses import is_loopback
from duelenv.ground.errors import UserError

#: Names of settings whose value is a secret, in lower case and with '_' for '-'.
_SECRET: Final = re.compile(
    r"(\w+_)?(api_?key|secret|password|passwd|authorization|credentials?|private_key)"
    r"|((api|access|auth|bearer|hf|secret)_)?token"
)
#: Addresses with a password before the host, or a secret among what is asked.
_TELLING: Final = re.compile(
    r"\w+://[^/\s]*:[^/\s]*@\S*|\w+://\S*[?&](api_?|access_|auth_)?(key|token)=\S*", re.IGNORECASE
)

_EXPECTED: Final = "expected {env: NAME} or {file: PATH}, where the token stands"


class Secret:
    """A token that shows itself only to whoever calls `reveal`; in logs, messages and pickles it does not stand."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the token."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """Hide the token where it stands in a text, such as somebody's error message."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled; pickle where it stands")


def read_secret(name: str, place: object) -> Secret | None:
    """Read the token that stands at a place.

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


def token_for(url: str, place: object) -> Secret | None:
    """Read the token that travels to an address; warn where others on the way can read it.

    Args:
        url: Where it is sent, with its scheme.
        place: As `read_secret` takes it.

    Raises:
        UserError: As of `read_secret`.
    """
    token = read_secret("token", place)
    try:
        parts = urlsplit(url)
    except ValueError:  # no address: whoever asks it says so
        return token
    if token is not None and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        warnings.warn(
            f"the token for {parts.hostname!r} crosses the network in the clear, by http://: "
            "use https://, or a tunnel to this machine",
            stacklevel=3,
        )
    return token


def refuse_secrets(settings: object, where: str = "") -> None:
    """Refuse settings that hold a secret itself, rather than where it stands; to be called before they are saved.

    Args:
        settings: Plain containers, of any depth.
        where: What leads to them, in dotted keys.

    Raises:
        UserError: Names the setting, not its value.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            dotted = f"{where}.{key}" if where else str(key)
            given = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
            if given and _SECRET.fullmatch(str(key).lower().replace("-", "_")):
                raise UserError(f"{dotted!r} holds a secret itself, {_EXPECTED}: configs are saved and shared")
            refuse_secrets(value, dotted)
    elif isinstance(settings, list | tuple):
        for value in settings:
            refuse_secrets(value, where)
    elif isinstance(settings, str) and "://" in settings and _TELLING.fullmatch(settings):
        raise UserError(
            f"{where!r} is an address with a secret in it: take it out, since configs are saved and shared, and give "
            "the token as {env: NAME} or {file: PATH} where the oracle takes one"
        )


def _first_line(path: Path) -> str:
    try:
        return next(iter(path.read_text(encoding="utf-8").splitlines()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the token in {str(path)!r} ({error}); correct the path or the file") from error
