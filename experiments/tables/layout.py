"""A table laid out in lines of text: in one piece where it fits, and on a narrow terminal its columns below each other.

Nothing is left out or cut: a mean stays on a line with its interval, and words are folded below it between words only.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence

__all__ = ["laid_out"]

#: Columns of words are folded to this width, or to that of the longest piece in them.
_FOLDED = 24
_GAP = "  "
#: Stands for a blank that no line ends at; `textwrap` does not know it as a blank.
_TIED = "\N{NO-BREAK SPACE}"


def laid_out(rows: Sequence[Sequence[str]], words: Collection[int], width: int | None = None) -> str:
    """Return a table as text.

    Args:
        rows: The titles of the columns, then the lines; the first column says what a line is about.
        words: Columns that hold words, which stand to the left; numbers stand to the right.
        width: Characters that a line may have; None is any number. Where a table is wider, it falls into blocks of
            columns, each with the first column before it.
    """
    columns = list(range(len(rows[0])))
    whole = _block([[[cell] for cell in row] for row in rows], columns, words)
    if width is None or max(map(len, whole)) <= width:
        return "\n".join(whole)
    folded = _folded(rows, words)
    widths = [max(len(line) for row in folded for line in row[column]) for column in columns]
    blocks: list[list[int]] = [[0]]
    for column in columns[1:]:
        taken = sum(widths[other] + len(_GAP) for other in blocks[-1])
        if taken + widths[column] > width and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(column)
    return "\n\n".join("\n".join(_block(folded, block, words)) for block in blocks)


def _folded(rows: Sequence[Sequence[str]], words: Collection[int]) -> list[list[list[str]]]:
    """Find the lines of each cell: titles and words folded, numbers and the first column in one piece."""
    found: list[list[list[str]]] = [[] for _ in rows]
    for column in range(len(rows[0])):
        cells = [row[column] for row in rows[1:]]
        if column in words and column > 0:
            tied = [re.sub(r" ?\[[^]]*\]", lambda found: found[0].replace(" ", _TIED), cell) for cell in cells]
            limit = max(_FOLDED, *(len(piece) for cell in tied for piece in cell.split(" ")))
            lines = [_fold(cell, limit) for cell in tied]
        else:
            limit = max(map(len, cells))
            lines = [[cell] for cell in cells]
        for row, folded in zip(found, [_fold(rows[0][column], limit), *lines], strict=True):
            row.append(folded)
    return found


def _fold(text: str, limit: int) -> list[str]:
    lines = textwrap.wrap(text, limit, break_long_words=False, break_on_hyphens=False) or [""]
    return [line.replace(_TIED, " ") for line in lines]


def _block(rows: Sequence[Sequence[Sequence[str]]], columns: Sequence[int], words: Collection[int]) -> list[str]:
    """Write some columns as lines of text, with a rule below the titles."""
    widths = {column: max(len(line) for row in rows for line in row[column]) for column in columns}
    found: list[str] = []
    titles = 0
    for row in rows:
        for number in range(max(len(row[column]) for column in columns)):
            cells = {column: row[column][number] if number < len(row[column]) else "" for column in columns}
            line = _GAP.join(
                cell.ljust(widths[column]) if column in words else cell.rjust(widths[column])
                for column, cell in cells.items()
            )
            found.append(line.rstrip())
        titles = titles or len(found)
    found.insert(titles, "-" * max(map(len, found)))
    return found
