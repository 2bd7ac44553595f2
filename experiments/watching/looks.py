"""What can be seen of a run at a moment, from its folder alone. No lock is taken and nothing is written.

Files that have not changed since the last look are not read again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.cell_states import CellState, state_of
from duelenv.ground.looking import look_into
from duelenv.labels.ledger import Counts, counts
from duelenv.labels.ledger_file import DATABASE
from duelenv.oracles.services.spending import Cost, spent_so_far

__all__ = ["CellLook", "Eye", "Look"]

#: A cell waits where a question is open and nothing has moved for so many seconds.
_STILL: Final = 3.0
#: Values of a curve that are kept.
_LAST: Final = 60

Found = TypeVar("Found")


@dataclass(frozen=True)
class CellLook:
    """One cell at a moment.

    Attributes:
        state: How it stands.
        values: The figure that matters, each time that the cell was judged, as the mean over its seeds; the last ones.
        counts: What its ledger holds; None without one, or where it cannot be read just now.
        waiting: Questions that are open while nothing moves; 0 where it does not wait.
    """

    state: CellState
    values: tuple[float, ...] = ()
    counts: Counts | None = None
    waiting: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Until it is finished, at the rate of this start; None where that is not known."""
        standing = self.state.standing
        if self.state.state != "running" or standing is None or standing.rate is None:
            return None
        return max(standing.horizon - standing.rounds, 0) / standing.rate


@dataclass(frozen=True)
class Look:
    """A run at a moment.

    Attributes:
        config: Of the run.
        cells: All of its cells, in the order in which they are played.
        spent: From its purse; None where no oracle of it costs anything.
    """

    config: RunConfig
    cells: tuple[CellLook, ...]
    spent: Cost | None

    @property
    def people(self) -> bool:
        """Whether those who are waited for are people."""
        return self.config.oracle is not None and self.config.oracle.name == "people"

    @property
    def over(self) -> bool:
        """Whether all cells are finished."""
        return all(cell.state.state == "finished" for cell in self.cells)


class Eye:
    """Looks at one run again and again.

    Args:
        folder: The run's.
        config: The run.
        now: The time in seconds since the epoch, by which a cell counts as still.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, now: Callable[[], float]) -> None:
        self._folder, self._config, self._now = folder, config, now
        self._known: dict[tuple[Path, str], tuple[object, Any]] = {}

    def look(self) -> Look:
        """Tell how the run stands."""
        every = tuple(self._cell(cell) for cell in cells(self._config))
        return Look(self._config, every, spent_so_far(self._folder.purse))

    def _cell(self, cell: Cell) -> CellLook:
        folder = self._folder.cell(cell.name)
        state = state_of(folder, cell, self._config.budget.labels)
        figure = None if state.standing is None else state.standing.figure
        values: tuple[float, ...] = ()
        if figure is not None:
            values = self._unless_known(folder.records, figure[0], lambda: _values(folder.records, figure[0])) or ()
        ledger = folder.path / DATABASE
        held = self._unless_known(
            ledger, "counts", lambda: look_into(ledger, lambda connection: counts(connection.execute))
        )
        waiting = 0
        if state.state == "running" and held is not None and self._now() - _moved(folder.progress, ledger) >= _STILL:
            waiting = max(held.asked - held.answered, 0)
        return CellLook(state, values, held, waiting)

    def _unless_known(self, path: Path, what: str, read: Callable[[], Found | None]) -> Found | None:
        """Read what a file holds, unless it is the same as before; keep what was known where it cannot be read now."""
        stamp = [_stamp(path), _stamp(path.with_name(f"{path.name}-wal"))]
        before = self._known.get((path, what))
        if before is not None and before[0] == stamp:
            known: Found | None = before[1]
            return known
        found = read() if stamp[0] is not None else None
        if found is None:
            return None if before is None else before[1]
        self._known[path, what] = (stamp, found)
        return found


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _moved(*paths: Path) -> float:
    """Find when one of some files was last written; the ledger's log counts with it."""
    every = [*paths, *(path.with_name(f"{path.name}-wal") for path in paths)]
    return max((stamp[2] / 1e9 for stamp in map(_stamp, every) if stamp is not None), default=0.0)


def _values(path: Path, name: str) -> tuple[float, ...] | None:
    """Read a figure in the last records, as means over seeds; None where the file cannot be read."""
    try:
        lines = path.read_bytes().splitlines()[-_LAST:]
    except OSError:
        return None
    means = (_mean(line, name) for line in lines)
    return tuple(mean for mean in means if mean is not None)


def _mean(line: bytes, name: str) -> float | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # the last line may just be being written
        return None
    value = record.get(name) if isinstance(record, dict) else None
    listed = value if isinstance(value, list) else [value]
    numbers = [
        float(one) for one in listed if isinstance(one, int | float) and abs(one) < 1e300 and not math.isnan(one)
    ]
    return sum(numbers) / len(numbers) if numbers else None
