"""What several commands print, and how: anybody's names and texts are in it, which a terminal must not obey."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground.terminal import printable

if TYPE_CHECKING:
    from duelenv.experiments.results.measurements import Results

__all__ = ["print_provenance", "print_tables", "print_text"]


def print_text(text: str) -> None:
    """Print what a command found, in which there may be anybody's names and texts."""
    print(printable(text, newlines=True))


def print_tables(results: Results) -> None:
    """Print the tables that answer the run's question; what else was made is in the report."""
    from duelenv.experiments.results.oracle_figures import oracle_lines
    from duelenv.experiments.tables.regret import tables

    for table in tables(results):
        if table.name == "regret":
            continue
        heading = f"{printable(table.title)}\n\n" if table.title else ""
        print(f"\n{heading}{table.text(_terminal())}\n\n{textwrap.fill(printable(table.caption), _width())}")
    for number, line in enumerate(oracle_lines(RunFolder(results.directory))):
        print(("\n" if number == 0 else "") + printable(f"{line.oracle}: {line.value} {line.meaning}"))


def print_provenance(results: Results) -> None:
    """Print what stands behind the tables, in a line, and a caution where that is not one thing."""
    from duelenv.experiments.results.provenance import provenance_of

    found = provenance_of(RunFolder(results.directory), results.config)
    if found.line():
        print("\n" + _labelled("played", f"on {found.line()}"))
    for caution in found.cautions():
        print(_labelled("caution", caution))


def _terminal() -> int | None:
    """Characters of a line on the terminal; None in a pipe or a file, where a table has lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _width() -> int:
    """Characters of a line of sentences."""
    return max(min(_terminal() or 100, 100), 40)


def _labelled(name: str, text: str) -> str:
    lines = textwrap.wrap(printable(text), _width() - 9, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{name:<9}{lines[0]}", *(" " * 9 + line for line in lines[1:])])
