"""Puts the docstrings into the form that the API reference reads: an extension of griffe, named in `mkdocs.yml`.

Examples begin with "Example:", which griffe knows in the plural alone; those of a paragraph of their own become code.
Worlds list their arguments under a heading, as Gymnasium's do.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ARGUMENTS = re.compile(r"^## Arguments\n(?P<listed>(?:.+\n?)+)", re.MULTILINE)
_SESSION = re.compile(r"(?P<before>\n\n)(?P<session>>>> .+(?:\n.+)*)")


def readable(text: str) -> str:
    """Rewrite a docstring, already without its indentation, as griffe and Markdown read it."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = _ARGUMENTS.sub(lambda found: "Args:\n" + re.sub(r"^", "    ", found["listed"], flags=re.MULTILINE), text)
    return _SESSION.sub(r"\g<before>```pycon\n\g<session>\n```", text)


class Docstrings(griffe.Extension):
    """Changes every docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
