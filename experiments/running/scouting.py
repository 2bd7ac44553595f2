"""Refuses a `metric` that nothing in a run measures, as soon as that can be known: play shows what agents measure."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from duelenv.experiments.config.cell import Cell, CellTask, cells
from duelenv.experiments.config.identity import cell_identity, identify
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.metrics import check_measured, is_measured, is_regret
from duelenv.experiments.running.play import scout_cell

__all__ = ["Scouts", "check_metric", "here_and_now"]

#: Plays some cells until they know what they measure; those names, and whether nobody was lost on the way.
Scouts = Callable[[Sequence[Cell]], tuple[set[str], bool]]


def check_metric(config: RunConfig, folder: RunFolder, todo: Sequence[Cell], scouts: Scouts) -> None:
    """Refuse a `metric` that nothing in this run measures.

    Not all agents need to measure the same. So the first cell plays until it knows, and the others only if it has no
    such figure. Of regret one cell for each world is enough.

    Args:
        config: The run.
        folder: Where the results of its finished cells lie.
        todo: Its unfinished cells.
        scouts: Plays some of them.

    Raises:
        UserError: The metric is measured nowhere.
    """
    import pyarrow.parquet as pq

    metric = config.metric
    if metric is None:
        return
    known: set[str] = set()
    first: dict[str, Cell | None] = {}  # None where a cell is finished: its results tell
    for cell in sorted(cells(config), key=lambda cell: cell in todo):
        world = json.dumps(dict(config.agent(cell.label).env), sort_keys=True, default=str)
        finished = cell not in todo
        first.setdefault(world if is_regret(metric) else cell.label, None if finished else cell)
        if finished:
            known |= set(pq.read_schema(folder.cell(cell.name).result).names) - {"agent", "seed", "step"}
    left = [cell for cell in first.values() if cell is not None]
    for tried in (left[:1], left[1:]):
        if tried and not is_measured(metric, known):
            names, all_told = scouts(tried)
            known |= names
            if not all_told:
                return  # one that failed may have it, and the caller says why it did
    check_measured(metric, known)


def here_and_now(config: RunConfig) -> Scouts:
    """Make scouts that play in this process and leave nothing; for a run whose oracles all answer for nothing."""

    def play(tried: Sequence[Cell]) -> tuple[set[str], bool]:
        names: set[str] = set()
        with tempfile.TemporaryDirectory(prefix="duelenv-") as apart:
            for cell in tried:
                place = RunFolder(Path(apart)).cell(cell.name)
                names |= set(scout_cell(CellTask(config, cell, place, cell_identity(identify(config), cell), (), None)))
        return names, True

    return play
