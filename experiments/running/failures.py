"""What is said of cells that failed: what they raised, and the command that plays each of them again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from duelenv.experiments.config.cell import Cell
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.vacancy import is_vacant
from duelenv.experiments.running.processes import RETRIES, Outcome
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["PREPARATION", "CellFailed", "CellsRefused", "Failures", "WorkerDied", "check_cells"]

#: Name of the task that makes everything once.
PREPARATION: Final = "preparation"
#: Cells that a last sentence names; the lines before it name them all.
_NAMED: Final = 3


class CellFailed(RuntimeError):
    """Code that a cell runs raised an exception; says which, and where its traceback is."""

    exit_code = 1


class CellsRefused(UserError):
    """A cell refused what it met: a setting, a gradient step that is not finite, the disk."""


class WorkerDied(UserError):
    """The workers of a cell died, the one that began it and those that replaced it."""

    exit_code = 1


def check_cells(names: Collection[str], cells: Sequence[Cell]) -> None:
    """Refuse a name that no cell has.

    Raises:
        UserError: There is one.
    """
    known = [cell.name for cell in cells]
    for name in names:
        if name not in known:
            raise UserError(f"The run has no cell {name!r}: {choices(name, known)}")


class Failures:
    """Tasks of a run that failed.

    Args:
        folder: The run's.
        cells: How many cells the run has.
        left: Names of those that were to be played now.
        bad: How they ended.
        say: Shows a line to the user.
    """

    def __init__(
        self, folder: RunFolder, cells: int, left: Sequence[str], bad: Sequence[Outcome], say: Callable[[str], None]
    ) -> None:
        self._folder, self._cells, self._left, self._bad, self._say = folder, cells, left, bad, say

    def told(self) -> Exception:
        """Write tracebacks, list the commands, and return what is to be raised."""
        sentences = [self._sentence(outcome) for outcome in self._bad]
        before = self._bad[0].name == PREPARATION
        # Where a setting is refused beforehand, the config in the folder is another, of before, and no cell failed.
        if self._folder.config.is_file() and not (before and self._bad[0].kind == "refused"):
            names = self._left if before else [outcome.name for outcome in self._bad]
            for name in names:
                self._say(f"{name!r} is played again by: {self._command(name)}")
        first = self._bad[0]
        if len(sentences) == 1:
            text = sentences[0]
        elif all(outcome.kind == "unplaced" for outcome in self._bad):
            text = f"{len(sentences)} of {self._cells} cells failed: {first.message}"
        else:
            more = f"; and {len(sentences) - _NAMED} more" if len(sentences) > _NAMED else ""
            text = f"{len(sentences)} of {self._cells} cells failed: {'; '.join(sentences[:_NAMED])}{more}"
        if first.kind == "unplaced" and first.name == PREPARATION:
            more = f" and {len(self._left) - _NAMED} more" if len(self._left) > _NAMED else ""
            text += f"; no cell was begun ({', '.join(self._left[:_NAMED])}{more}), and the same command begins them"
        if all(outcome.kind in ("refused", "unplaced") for outcome in self._bad):
            return CellsRefused(text)
        if all(outcome.kind == "died" for outcome in self._bad):
            return WorkerDied(
                f"{text}; no label is lost, and the same command goes on; fewer at a time with --jobs need less memory"
            )
        if first.name != PREPARATION and is_vacant(self._folder):
            text += "; nothing was asked or finished so far: correct the code and give the same command again"
        elif first.name != PREPARATION:
            text += (
                f"; the same command goes on there, and once the code is changed '--output NEW --answers "
                f"{self._folder.root}' begins anew with the answers so far"
            )
        failure = CellFailed(text)
        for outcome in self._bad:
            if outcome.trace:
                failure.add_note(outcome.trace)
        return failure

    def _command(self, name: str) -> str:
        root = self._folder.root
        return shlex.join(["duelenv", "run", str(self._folder.config), "--output", str(root), "--only", name])

    def _sentence(self, outcome: Outcome) -> str:
        alone = outcome.name == PREPARATION or self._cells == 1
        if outcome.kind == "refused":
            self._leave(self._folder.cell(outcome.name).refusal, f"{outcome.message}\n")
            return outcome.message if alone else f"{outcome.name!r}: {outcome.message}"
        if outcome.kind == "unplaced":
            return outcome.message if alone else f"{outcome.name!r}: {outcome.message}"
        if outcome.kind == "died":
            return f"The workers of {outcome.name!r} ended {RETRIES + 1} times, the last one by {outcome.message}"
        if outcome.name == PREPARATION:
            return f"Before the first round, the code that the config names raised {outcome.message}"
        path = self._folder.cell(outcome.name).error
        where = f" (traceback in {str(path)!r})" if self._leave(path, outcome.trace) else ""
        return f"{outcome.name!r} stopped with {outcome.message}{where}"

    @staticmethod
    def _leave(path: Path, text: str) -> bool:
        """Leave in the folder of a cell what stopped it; False where there is no folder, or the disk refuses."""
        if not path.parent.is_dir():
            return False
        try:
            files.write_text(path, text)
        except UserError:  # what stopped the cell is the sentence to be heard
            return False
        return True
