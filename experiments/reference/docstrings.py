"""What docstrings say, taken apart: what a thing is, and what each of its settings means."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["meanings", "settings_of", "summary"]

#: Headings of a docstring under which settings stand, in Google's form and in that of Gymnasium's worlds.
_HEADINGS = ("Args:", "Attributes:", "## Arguments")


def summary(part: Any) -> str:
    """Find the first paragraph of a docstring on one line; empty where there is none of its own."""
    text = inspect.getdoc(part) or ""
    # A dataclass without a docstring gets its signature for one.
    if isinstance(part, type) and text.startswith(f"{part.__name__}("):
        return ""
    return " ".join(text.partition("\n\n")[0].split())


def meanings(part: Any) -> dict[str, str]:
    """Say what each setting means, by name, of a class, its bases and its `__init__`, or of a function."""
    found: dict[str, str] = {}
    for one in reversed(part.__mro__[:-1]) if isinstance(part, type) else (part,):
        for said in (one, vars(one).get("__init__")):
            text = getattr(said, "__doc__", None)
            found |= _listed(inspect.cleandoc(text)) if text else {}
    return found


def _listed(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    indent, within, name = 0, False, ""
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if line.strip() in _HEADINGS:
            within, indent, name = True, depth + (0 if line.lstrip().startswith("##") else 4), ""
        elif within and line.strip() and (depth < indent or line.lstrip().startswith("##")):
            within = False
        elif within and depth == indent and (begun := re.match(r"\*{0,2}(\w+)(?: \([^)]*\))?: ?(.*)", line.strip())):
            name = begun.group(1)
            found[name] = [begun.group(2)]
        elif within and name:
            found[name].append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}


#: "See there", "As for the constructor", "As `Crowd` takes it": the meaning stands elsewhere.
_ELSEWHERE = re.compile(r"(?i)^(see|as)( for the constructor| of the class| there| `(?P<name>\w+)`)[^.]*\.?$")


def settings_of(part: Callable[..., Any], hidden: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """List name, default and meaning of what a part takes by name; the default is empty where there is none.

    A meaning that only says where it stands is fetched from there.
    """
    said = meanings(part)
    listed = []
    elsewhere: Any = None
    for name, one in inspect.signature(part).parameters.items():
        if name in hidden or one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL, one.POSITIONAL_ONLY):
            continue
        meaning = said.get(name, "")
        found = _ELSEWHERE.match(meaning)
        if found:
            elsewhere = _named(part, found.group("name")) or elsewhere  # of "see there" what was named last
            meaning = meanings(elsewhere).get(name, meaning) if elsewhere else meaning
        listed.append((name, "" if one.default is one.empty else repr(one.default), meaning))
    return listed


def _named(part: Callable[..., Any], name: str | None) -> Any:
    """Find what a docstring refers to: a class method's class, a class that a part extends, a name of its module."""
    if name is None:
        owner = getattr(part, "__self__", None)
        return owner if isinstance(owner, type) else None
    bases: tuple[type, ...] = getattr(part, "__mro__", ())
    extended = next((base for base in bases if base.__name__ == name), None)
    return extended or getattr(sys.modules[inspect.unwrap(part).__module__], name, None)
