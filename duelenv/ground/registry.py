"""Parts by name, one kind of registry for all of them: agents, beliefs, rules, losses, oracles, stages.

A registry holds parts, or where they lie ("module:attribute"), so that naming a part imports nothing. A user's file
adds its own; the same file, changed and loaded again, takes its name over.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from duelenv.ground.calls import check_settings
from duelenv.ground.checks import unknown_name
from duelenv.ground.errors import UserError

Part = TypeVar("Part")
Own = TypeVar("Own")


class Registry(Generic[Part]):
    """Parts of one kind.

    Args:
        kind: What they are, for messages.
        parts: Those that are known from the start, or where they lie.
        reserved: Names that may be written in place of a part's, and that whoever looks parts up reads before.
    """

    def __init__(
        self, kind: str, parts: Mapping[str, Part | str] | None = None, *, reserved: Iterable[str] = ()
    ) -> None:
        self.kind = kind
        self.reserved = tuple(reserved)
        self._parts: dict[str, Part | str] = dict(parts or {})

    @overload
    def register(self, name: str) -> Callable[[Own], Own]: ...

    @overload
    def register(self, name: str, part: Part | str) -> None: ...

    def register(self, name: str, part: Any = None) -> Any:
        """Add a part under a new name; without one, as a decorator.

        Args:
            name: The name.
            part: The part, or "module:attribute" of it.

        Raises:
            UserError: Another part has the name, it stands for something else, or it is no name.
        """
        if not isinstance(name, str) or not name:
            raise UserError(
                f"{self.kind} parts are registered under a name, and {name!r} is none; write @register('mine') above it"
            )
        if part is None:

            def add(decorated: Own) -> Own:
                self.register(name, cast("Part", decorated))
                return decorated

            return add
        known = self._parts.get(name, part)
        if name in self.reserved or (known is not part and not _from_one_file(known, part)):
            raise UserError(f"{self.kind} {name!r} is registered already; choose another name")
        self._parts[name] = part
        return None

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._parts))

    def known(self) -> tuple[str, ...]:
        """Return all names that may be written, sorted: those of parts and the reserved ones."""
        return tuple(sorted({*self.reserved, *self._parts}))

    def in_order(self) -> tuple[str, ...]:
        """Return all names as they were registered, for parts of which several are used one after the other."""
        return tuple(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, name: str) -> Part:
        """Return the part of a name.

        Raises:
            UserError: There is none.
        """
        if not isinstance(name, str) or name not in self._parts:
            raise unknown_name(self.kind, name, self.known(), extensible=True)
        part = self._parts[name]
        if isinstance(part, str):
            module, _, path = part.partition(":")
            loaded: Any = importlib.import_module(module)
            for attribute in path.split("."):
                loaded = getattr(loaded, attribute)
            part = self._parts[name] = cast("Part", loaded)
        return part

    def make(self, name: str, settings: Mapping[str, Any], *, besides: Iterable[str] = ()) -> Any:
        """Call a part that is a class or a function with its settings by name.

        Args:
            name: One of `names()`.
            settings: Its keyword arguments.
            besides: Settings that the caller reads itself, for messages.

        Raises:
            UserError: An unknown name or setting, one that is missing, or a value that the part refuses.
        """
        factory = cast("Callable[..., Any]", self[name])
        parameters = inspect.signature(factory).parameters.values()
        check_settings(f"{self.kind} {name!r}", parameters, settings, besides=besides)
        return factory(**settings)


def _from_one_file(known: Any, part: Any) -> bool:
    """Tell whether two parts are versions of one: defined in the same file under the same name."""
    places = [(_file_of(one), getattr(one, "__qualname__", "<lambda>")) for one in (known, part)]
    return places[0] == places[1] and places[0][0] is not None and not places[0][1].endswith("<lambda>")


def _file_of(part: Any) -> str | None:
    """Find the file of a class or function: where a script's class is no module's any more, that of its functions."""
    inside = (
        [inspect.unwrap(one) for one in vars(part).values() if inspect.isfunction(one)] if inspect.isclass(part) else []
    )
    own = [one for one in inside if one.__qualname__.startswith(f"{part.__qualname__}.")]
    try:
        found = own[0].__code__.co_filename if own else inspect.getsourcefile(part)
    except (TypeError, OSError):  # no class and no function, or a class of no file
        return None
    return None if found is None else os.path.abspath(found)
