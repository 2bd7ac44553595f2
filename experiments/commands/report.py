"""`duelenv report RUN_DIR`: table, figures and page of the cells that are finished, again."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from duelenv.experiments.commands.printing import print_provenance, print_tables
from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    report = commands.add_parser("report", help="table, figures and report.html of finished cells, again")
    report.add_argument("directories", metavar="RUN_DIR", nargs="+", type=Path)
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.cell import cells
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.folder.layout import RunFolder
    from duelenv.experiments.report.page import write_report
    from duelenv.experiments.results.assembling import assemble
    from duelenv.experiments.results.cell_states import unfinished_cells, unfinished_sentence
    from duelenv.experiments.results.measurements import Results

    for directory in arguments.directories:
        config = open_run(directory)
        assemble(config, directory)
        unfinished = unfinished_cells(RunFolder(directory), config)
        if unfinished:
            left = unfinished_sentence(unfinished, len(cells(config)))
            print(textwrap.fill(printable(f"{left}; they are left out below."), 100))
        page = write_report(directory)
        results = Results(directory)
        print_tables(results)
        print_provenance(results)
        print(f"\nreport   {printable(str(page))}")
    return 0
