"""Whose folder a cell's is, and whose answers: what a cell takes on before it plays, or refuses as another's."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from duelenv.experiments.config.cell import CellTask
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import hold_cell
from duelenv.experiments.running.fuse import Fuse
from duelenv.experiments.running.processes import Stopped, stop_requested
from duelenv.experiments.trackers import Following, TrackedCell
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import Ledger
from duelenv.labels.ledger_file import COPY, DATABASE, LedgerFile
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Limits, Purse
from duelenv.oracles.sources import answers_later

__all__ = ["foreign", "home_of", "open_ledger", "take_on", "trackers_of"]


def take_on(task: CellTask) -> None:
    """Clear a cell's folder of what a killed process left, and mark it as this cell's.

    Raises:
        UserError: It belongs to another cell.
    """
    for leftover in task.folder.path.glob(".*.tmp"):  # of a process that was killed while it wrote
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    stamp = files.read_sealed(task.folder.owner)
    if stamp is None:
        files.write_sealed(task.folder.owner, {"cell": task.identity})
    elif stamp["cell"] != task.identity:
        raise foreign(task, task.folder.owner)


def home_of(task: CellTask) -> Home:
    """Make what the run gives to its oracles: a folder and a purse that all cells share."""
    run = RunFolder(task.folder.path.parent.parent)
    budget = task.config.budget
    purse = Purse(Limits(tokens=budget.tokens, money=budget.money), run.purse)
    return Home(run.home, purse, cell=task.cell.name, pause=_pause)


def trackers_of(task: CellTask) -> Following:
    """Make the trackers of a cell, which keep what they keep beside the cells."""
    config, cell = task.config, task.cell
    folder = RunFolder(task.folder.path.parent.parent).trackers
    tracked = TrackedCell(config.name, cell.name, cell.label, cell.seeds, task.identity, folder)
    return Following(config.trackers, tracked, config.to_dict())


def _pause(seconds: float) -> None:
    """Sleep, but for a run that is told to stop: what a source that waits has asked is in its records."""
    if stop_requested():
        raise Stopped
    time.sleep(seconds)


def foreign(task: CellTask, path: Path) -> UserError:
    """Make the error about a file in a cell's folder that is not the cell's."""
    return UserError(
        f"{str(path)!r} belongs to another config, or to other contents of the files that it names: move the "
        f"folder {str(task.folder.path)!r} away, or choose another run directory with --output"
    )


def open_ledger(task: CellTask, world: Any) -> Ledger | None:
    """Open a cell's ledger and let the world keep it; None where nobody is asked and no duels are kept.

    Args:
        task: The cell.
        world: Its environment, unwrapped.

    Raises:
        UserError: The ledger belongs to another cell.
    """
    config = task.config
    texts = "responses" in world.view().observation_space.spaces
    duels = texts if config.label_log is None else config.label_log
    if not (duels or config.oracle is not None or config.evaluation_oracle is not None):
        return None
    fuse = None
    if task.fuse is not None and config.budget.run is not None:
        fuse = Fuse(task.fuse, task.cell.name, config.budget.run)
    _inherit(task, getattr(world, "oracle", None))
    ledger = Ledger(task.folder.path, fuse)
    if not ledger.belongs_to(task.identity):
        ledger.close()
        raise foreign(task, task.folder.path / DATABASE)
    world.keep_ledger(ledger, duels=duels)
    return ledger


def _inherit(task: CellTask, oracle: Any) -> None:
    """Take over the answers of the same agent with fewer seeds: its rows are the first rows here."""
    folder = task.folder.path
    if any((folder / name).exists() for name in (DATABASE, COPY)):
        return
    if oracle is not None and answers_later(oracle):
        return  # which keeps a record of its own, and answers the new rows in the same rounds
    for sibling in task.siblings:
        if not (sibling.path / DATABASE).exists():
            continue
        apart = folder / ".inherited"
        shutil.rmtree(apart, ignore_errors=True)
        apart.mkdir()
        with hold_cell(sibling.lock, stop_requested):
            LedgerFile(sibling.path).close()  # made good, and all in one file
            for name in (DATABASE, COPY):
                shutil.copyfile(sibling.path / name, apart / name)
        inherited = LedgerFile(apart)
        inherited.write({"meta": [("cell", task.identity)]})
        inherited.close()
        for name in (COPY, DATABASE):  # either of them is enough
            (apart / name).replace(folder / name)
        shutil.rmtree(apart)
        return
