"""`duelenv report RUN_DIR`: table, figures and page of the cells that are finished, again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.experiments.commands.printing import print_tables
from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    report = commands.add_parser("report", help="table, figures and report.html of finished cells, again")
    report.add_argument("directories", metavar="RUN_DIR", nargs="+", type=Path)
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.report.page import write_report
    from duelenv.experiments.results.assembling import assemble
    from duelenv.experiments.results.measurements import Results

    for directory in arguments.directories:
        assemble(open_run(directory), directory)
        page = write_report(directory)
        print_tables(Results(directory))
        print(f"\nreport   {printable(str(page))}")
    return 0
