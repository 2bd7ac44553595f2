"""Tables in Markdown. Knows nothing of what stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["cell", "code", "table"]


def cell(text: str) -> str:
    """Put a text on one line, with nothing in it that would end a cell of a table or begin a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def code(text: str) -> str:
    r"""Escape a text to be shown to the letter, within a table or outside.

    Example:
        >>> code("text | json")
        '`text \\| json`'
    """
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table of cells that are Markdown already and an empty line behind it; nothing without rows.

    Example:
        >>> print(table(["name", "default"], [["`a`", "1"]]))
        | name | default |
        | :-- | :-- |
        | `a` | 1 |
        <BLANKLINE>
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{' :-- |' * len(head)}", *lines, ""])
