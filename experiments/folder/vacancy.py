"""Run folders in which nothing is that anybody would miss: a run that failed before it asked or finished anything."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

from duelenv.experiments.folder.layout import CellFolder, RunFolder
from duelenv.experiments.folder.locks import hold_cell
from duelenv.ground.errors import UserError
from duelenv.labels.ledger_file import read

__all__ = ["is_vacant", "vacate"]

#: Tables of a ledger with what was asked, answered and played.
_TABLES: Final = ("requests", "answers", "duels")


def is_vacant(folder: RunFolder) -> bool:
    """Tell whether a run folder holds no answer, question, checkpoint or result. Writes nothing.

    What cannot be read may hold some.
    """
    kept = (folder.results, folder.labels, folder.purse, folder.spending)
    if any(path.exists() for path in kept) or (folder.home.is_dir() and any(folder.home.iterdir())):
        return False
    return all(_is_vacant(cell) for cell in _cells(folder))


def vacate(folder: RunFolder) -> None:
    """Remove what a run left that did nothing: the folders of its cells, and what it ran on.

    Raises:
        UserError: A cell is still played, or has got something meanwhile.
    """
    for cell in _cells(folder):
        with hold_cell(cell.lock, lambda: False):
            if not _is_vacant(cell):
                raise UserError(
                    f"A process of an earlier start wrote in {str(cell.path)!r} just now: choose another run directory "
                    f"with --output NEW, which with '--answers {folder.root}' begins with the answers in here"
                )
            shutil.rmtree(cell.path)
    shutil.rmtree(folder.trackers, ignore_errors=True)
    for path in (folder.environment, folder.fuse):
        path.unlink(missing_ok=True)


def _cells(folder: RunFolder) -> list[CellFolder]:
    if not folder.cells.is_dir():
        return []
    return [CellFolder(path) for path in sorted(folder.cells.iterdir()) if path.is_dir()]


def _is_vacant(cell: CellFolder) -> bool:
    kept = (cell.done, cell.checkpoint, cell.diverged, cell.model, cell.result)
    if any(path.exists() for path in kept) or any(cell.path.glob("best-*")):
        return False
    return not _has_rows(cell.path)


def _has_rows(folder: Path) -> bool:
    """Tell whether a ledger holds anything, or cannot be read."""
    try:
        connection = read(folder)
    except UserError:
        return True
    if connection is None:
        return False
    with closing(connection):
        return any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in _TABLES)
