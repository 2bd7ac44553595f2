"""Calls with settings that a user wrote by name: one that is not taken, or missing, is a sentence, no `TypeError`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["check_made", "check_settings"]


def check_settings(
    what: str, parameters: Iterable[Parameter], settings: Mapping[str, Any], *, besides: Iterable[str] = ()
) -> None:
    """Check that something with these parameters can be called with settings by name.

    Args:
        what: What is called, for the sentence.
        parameters: What it takes.
        settings: Keyword arguments.
        besides: Further settings that may stand there, for the sentence.

    Raises:
        UserError: An unknown setting, or one that is missing.
    """
    parameters = list(parameters)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    known = [parameter.name for parameter in named]
    for key in settings:
        if key not in known and not takes_any:
            raise UserError(f"{what} has no setting {key!r}: {choices(key, [*known, *besides])}")
    missing = [one.name for one in named if one.default is one.empty and one.name not in settings]
    if missing:
        several, it = ("s", "them") if len(missing) > 1 else ("", "it")
        listed = " and ".join(filter(None, (", ".join(map(repr, missing[:-1])), repr(missing[-1]))))
        raise UserError(f"{what} needs the setting{several} {listed}; give {it}")


def check_made(
    cls: type, root: type, what: Callable[[type], str], before: Callable[[Mapping[str, Any]], None] | None = None
) -> None:
    """Let instances of a class be made with settings that it takes alone; for `__init_subclass__`.

    Args:
        cls: The class, whose own `__init__` is wrapped.
        root: The class up to which `**settings` are handed on; `cls` itself where they go elsewhere.
        what: Names a class, for the sentence.
        before: Looks at the settings first.
    """
    made = cls.__dict__.get("__init__")
    if made is None:
        return

    @functools.wraps(made)
    def init(self: Any, /, *args: Any, **settings: Any) -> None:
        if type(self).__init__ is init:  # no call by a subclass, which knows what it does
            if before is not None:
                before(settings)
            parameters = _taken(type(self), root)
            by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
            check_settings(what(type(self)), [one for one in parameters if one not in by_place[: len(args)]], settings)
        made(self, *args, **settings)

    cls.__init__ = init  # type: ignore[misc]


def _taken(cls: type, root: type) -> list[Parameter]:
    """Return what a class takes, those included that its `**settings` hand on to classes before it, up to `root`."""
    taken: dict[str, Parameter] = {}
    rest: list[Parameter] = []
    for one in (one for one in cls.__mro__[: cls.__mro__.index(root) + 1] if "__init__" in one.__dict__):
        _, *own = inspect.signature(one.__dict__["__init__"]).parameters.values()
        named = [
            parameter for parameter in own if parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        ]
        if taken:  # what a class before it needs is given by the class itself
            named = [parameter.replace(default=None) for parameter in named]
        taken = {parameter.name: parameter for parameter in named} | taken
        rest = [parameter for parameter in own if parameter.kind is parameter.VAR_KEYWORD]
        if not rest:
            break
    return [*taken.values(), *rest]
