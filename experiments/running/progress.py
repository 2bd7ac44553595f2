"""What a person sees while a run goes on: a bar, a line per finished cell in a log, or what is not to be missed."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from duelenv.experiments.config.cell import CellReport
from duelenv.experiments.folder.layout import CellFolder
from duelenv.experiments.folder.standing import Standing, read_standing
from duelenv.ground.terminal import printable

__all__ = ["Progress"]

#: Seconds between two looks at the cells' progress files.
_POLL_SECONDS = 0.5


class Progress:
    """Follows the progress files that cells write in their folders.

    Files, because they work alike for threads, processes and other machines.

    Args:
        name: Name of the run.
        total: Cells of the run.
        finished: Cells that were finished before.
        folders: Folders of the cells that will run.
        bars: Bars, or neither bars nor lines; by default bars in a notebook and where standard error is a terminal, and
            lines elsewhere.
    """

    def __init__(self, name: str, total: int, finished: int, folders: Sequence[Path], bars: bool | None) -> None:
        self.name = name
        self.total = total
        self.done = finished
        self.folders = folders
        self.notebook = "ipykernel.zmqshell" in sys.modules  # as tqdm tells
        self.quiet = bars is False
        self.bars = (self.notebook or sys.stderr.isatty()) if bars is None else bars
        self._bar: Any = None
        self._known: dict[Path, Standing] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Progress:
        if self.done and self.done < self.total:
            self.advance(f"{self.name}: {self.done} of {self.total} cells are finished already")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._bar is not None:
            if kind is None:
                self._refresh(final=True)
            self._bar.close()

    def advance(self, text: str) -> None:
        """Say how far it is, if that is to be seen at all."""
        if not self.quiet:
            self.note(text)

    def note(self, text: str) -> None:
        """Say something once that is not to be missed."""
        text = printable(text, newlines=True)
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self.bars:
            from tqdm.auto import tqdm

            print(text, file=self._stream, flush=True)
            # A terminal of unknown size reports 0 x 0, in which tqdm would draw nothing.
            terminal: dict[str, Any] = {"ncols": min(shutil.get_terminal_size().columns, 120), "nrows": 24}
            self._bar = tqdm(
                total=None,
                file=self._stream,
                unit="round",
                **({"dynamic_ncols": True} if self.notebook else terminal),
                bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} rounds "
                "[{elapsed}<{remaining}, {rate_fmt}]{postfix}",
            )
            self._thread.start()
        else:
            print(text, file=self._stream, flush=True)

    @property
    def _stream(self) -> TextIO:
        """Where things are said: a notebook shows standard error as if something were wrong."""
        return sys.stdout if self.notebook else sys.stderr

    def finished(self, report: CellReport) -> None:
        """Tell that a cell has ended."""
        self.done += 1
        if self._bar is None and not self.quiet:
            seeds = report.cell.seeds
            which = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
            figure = f", {report.figure}" if report.figure else ""
            came = f"({self.done} of {self.total} cells)"
            line = f"{self.name}: {report.cell.label}, {which}: {report.seconds:.1f} s{figure} {came}"
            print(printable(line), file=self._stream, flush=True)

    def _follow(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._refresh()

    def _refresh(self, final: bool = False) -> None:
        rounds = horizon = 0
        figures: list[str] = []
        for folder in self.folders:
            # A file that cannot be read now says what it said before.
            standing = read_standing(CellFolder(folder).progress) or self._known.get(folder)
            if standing is None:
                continue
            self._known[folder] = standing
            horizon = max(horizon, standing.horizon)
            rounds += standing.rounds
            # Unlike a path's own `exists`, this says no where it is not allowed to look.
            if standing.figure is not None and not os.path.exists(CellFolder(folder).result):
                name, value = standing.figure
                figures.append(f"{folder.name} {name} {value}" if not figures else f"{folder.name} {value}")
        if horizon == 0:
            return
        bar = self._bar
        if bar.total != horizon * len(self.folders):
            bar.reset(total=horizon * len(self.folders))  # a notebook's bar learns its length only so
            # Rounds of a continued cell were not played now: they would spoil the rate.
            bar.initial = bar.n = rounds
            bar.start_t = bar._time()
        bar.n = bar.total if final else rounds
        bar.set_description_str(printable(f"{self.name}: {self.done}/{self.total} cells"), refresh=False)
        bar.set_postfix_str(printable("; ".join(figures[:2])), refresh=False)
        bar.refresh()
