"""How each cell of a run stands, from its folder alone: finished, played at this moment, failed, or how far it came.

Nothing is written and no lock is taken, so that anybody may look at any time. For tables and sentences, not for
deciding what is played next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import CellFolder, RunFolder
from duelenv.experiments.folder.locks import seems_held
from duelenv.experiments.folder.standing import Standing, read_standing

__all__ = ["CellState", "State", "state_of", "unfinished_cells", "unfinished_sentence"]

State = Literal["finished", "running", "failed", "stopped", "not begun"]

#: Seconds without news after which a cell on another machine counts as stopped.
_SILENCE: Final = 120.0
#: Of what somebody's code raised, this many characters are shown.
_LONGEST: Final = 300


@dataclass(frozen=True)
class CellState:
    """One cell, as it stands.

    Attributes:
        cell: Which.
        state: Its state.
        standing: How far it says that it is; None where it says nothing yet.
        reason: Why it failed or stopped, as a sentence; empty where nothing is known.
        budget: Labels that each seed may ask for, where the config says so.
    """

    cell: Cell
    state: State
    standing: Standing | None = None
    reason: str = ""
    budget: int | None = None

    @property
    def labels(self) -> int | None:
        """Labels of each seed, rounded down where replicates asked for different numbers."""
        if self.standing is None or self.standing.labels is None:
            return None
        return self.standing.labels // len(self.cell.seeds)

    def how_far(self) -> str:
        """Say where it is: `thompson-seed4 at 120 of 240 labels`."""
        if self.standing is None:
            return f"{self.cell.name} not begun"
        each = " a seed" if len(self.cell.seeds) > 1 else ""
        if self.labels is not None and self.budget is not None:
            return f"{self.cell.name} at {self.labels:,} of {self.budget:,} labels{each}"
        labels = "" if self.labels is None else f" ({self.labels:,} labels{each})"
        return f"{self.cell.name} at round {self.standing.rounds:,} of {self.standing.horizon:,}{labels}"


def state_of(folder: CellFolder, cell: Cell, budget: int | None = None) -> CellState:
    """Tell how one cell stands.

    Args:
        folder: The cell's.
        cell: Which it is.
        budget: Labels of each seed, where the config says so.
    """
    standing = read_standing(folder.progress)
    if folder.finished:
        return CellState(cell, "finished", standing, budget=budget)
    held = seems_held(folder.lock)
    if held or (held is None and time.time() - (_changed(folder.progress) or 0.0) < _SILENCE):
        return CellState(cell, "running", standing, budget=budget)
    begun = _changed(folder.lock)
    # What an earlier start left says nothing of this one.
    for path, state in ((folder.error, "failed"), (folder.refusal, "stopped")):
        written = _changed(path)
        if written is not None and (begun is None or written >= begun):
            return CellState(cell, "failed" if state == "failed" else "stopped", standing, _last_line(path), budget)
    begun_at_all = standing is not None or folder.records.is_file()
    return CellState(cell, "stopped" if begun_at_all else "not begun", standing, budget=budget)


def unfinished_cells(folder: RunFolder, config: RunConfig) -> list[CellState]:
    """Find the cells of a run that are not finished, those first that have come furthest."""
    states = [state_of(folder.cell(cell.name), cell, config.budget.labels) for cell in cells(config)]
    left = [state for state in states if state.state != "finished"]
    return sorted(left, key=_share, reverse=True)


def unfinished_sentence(unfinished: Sequence[CellState], total: int, *, shown: int = 6) -> str:
    """Say which cells are unfinished and how far they are; empty where all are finished.

    Args:
        unfinished: As `unfinished_cells` gives them.
        total: Cells of the run.
        shown: How many are named.
    """
    if not unfinished:
        return ""
    named = ", ".join(state.how_far() for state in unfinished[:shown])
    more = f" and {len(unfinished) - shown} more" if len(unfinished) > shown else ""
    return f"{len(unfinished)} of {total} cells unfinished: {named}{more}"


def _share(state: CellState) -> float:
    return -1.0 if state.standing is None else state.standing.rounds / max(state.standing.horizon, 1)


def _changed(path: Path) -> float | None:
    """Find when a file was last written; None where it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def _last_line(path: Path) -> str:
    """Find what a traceback ends with, or a sentence."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:_LONGEST] if said else ""
