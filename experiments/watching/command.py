"""`duelenv watch RUN`: the table of a run's cells, again and again until all are finished, or once."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.config.identity import no_run_in, settings_of
from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground import checks

__all__ = ["add_parser", "watch"]

_INTERRUPTED: Final = 130


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    watch_parser = commands.add_parser(
        "watch",
        help="a run as it stands: each cell with its rounds, labels, metric, time left and state",
        description="Reads the folder of a run, which may be going on, be interrupted or finished, and shows its cells "
        "until all are finished. Takes no lock and writes nothing. Ctrl-C ends it, and not the run.",
    )
    watch_parser.add_argument("directory", metavar="RUN_DIR", type=Path)
    watch_parser.add_argument("--once", action="store_true", help="print it once, as where nobody looks at a terminal")
    watch_parser.add_argument(
        "--every", metavar="SECONDS", type=float, default=2.0, help="time between two looks (default: 2)"
    )
    watch_parser.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    every = checks.number("--every", arguments.every, low=0.1, high=3600.0)
    # What is no terminal cannot be written over.
    return watch(arguments.directory, every=every, once=arguments.once or not sys.stdout.isatty())


def watch(directory: Path, *, every: float = 2.0, once: bool = False) -> int:
    """Show a run until all of its cells are finished.

    Args:
        directory: A run folder.
        every: Seconds between two looks.
        once: Show it one time.

    Returns:
        Exit code: 0, or 130 after Ctrl-C.

    Raises:
        UserError: It is not a run folder.
    """
    from rich.console import Console
    from rich.live import Live

    from duelenv.experiments.watching.looks import Eye
    from duelenv.experiments.watching.table import render

    folder, console = RunFolder(directory), Console(highlight=False, markup=False, emoji=False)
    try:
        if not _has_begun(folder):
            console.print("preparing: no cell has begun")
            if once:
                return 0
            while not _has_begun(folder):
                time.sleep(every)
        eye = Eye(folder, settings_of(folder), time.time)
        look = eye.look()
        if once:
            console.print(render(look, console))
            return 0
        with Live(render(look, console, cut=True), console=console, auto_refresh=False) as live:
            while not look.over:
                time.sleep(every)
                look = eye.look()
                live.update(render(look, console, cut=True), refresh=True)
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED


def _has_begun(folder: RunFolder) -> bool:
    """Tell whether a run folder says what it is; while a run prepares, it holds a lock alone.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.root.is_dir():
        raise no_run_in(folder)
    return folder.marker.exists() or folder.config.exists() or not folder.lock.exists()
