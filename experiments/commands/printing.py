"""What several commands print, and how: anybody's names and texts are in it, which a terminal must not obey."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground.terminal import printable

if TYPE_CHECKING:
    from duelenv.experiments.results.measurements import Results

__all__ = ["print_tables", "print_text"]


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
        print(f"\n{heading}{table.text()}\n\n{textwrap.fill(printable(table.caption), 100)}")
    for number, line in enumerate(oracle_lines(RunFolder(results.directory))):
        print(("\n" if number == 0 else "") + printable(f"{line.oracle}: {line.value} {line.meaning}"))
