"""Runs all cells of a config in a run folder, several at a time, and can be called again to go on.

Not for what happens inside a cell (`play`), how processes end (`processes`) or where things lie
(`duelenv.experiments.folder`), nor for tables and figures.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from duelenv.experiments.config.cell import Cell, CellTask, cells
from duelenv.experiments.config.identity import (
    Identity,
    cell_identity,
    check_owner,
    claim,
    identify,
)
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.environment import add_start
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import RunLock, hold_run
from duelenv.experiments.results import labels
from duelenv.experiments.results.assembling import assemble
from duelenv.experiments.results.metrics import check_better
from duelenv.experiments.running.answers import Answers, begin_with, read_answers
from duelenv.experiments.running.backends import open_backend
from duelenv.experiments.running.failures import (
    PREPARATION,
    CellFailed,
    CellsRefused,
    Failures,
    WorkerDied,
    check_cells,
)
from duelenv.experiments.running.fuse import start_counting
from duelenv.experiments.running.play import run_cell, scout_cell
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.processes import Ending, Outcome, Task, outcomes
from duelenv.experiments.running.progress import Progress
from duelenv.experiments.running.scouting import check_metric
from duelenv.ground.errors import UserError
from duelenv.ground.files import refusals_said
from duelenv.labels.ledger_file import DATABASE

__all__ = ["CellFailed", "Interrupted", "OutOfBudget", "Terminated", "run"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; says how far it came."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM during a run, which batch systems send, or SIGHUP; says how far it came."""

    exit_code = 143


class OutOfBudget(UserError):
    """The labels of the whole run are spent, or its money; says which cells are unfinished."""

    exit_code = 3


def run(
    config: RunConfig,
    directory: Path | str,
    *,
    progress: bool | None = None,
    only: Collection[str] | None = None,
    answers: Path | str | None = None,
) -> Path:
    """Run what is not finished yet of `config` in `directory` and put the results together.

    Args:
        config: The run.
        directory: Its run folder; made if absent. One that holds a run of fewer seeds or agents is extended.
        progress: Bars (True), or only what is not to be missed, such as a cell that failed (False); by default bars on
            a terminal and in a notebook, a line per finished cell elsewhere.
        only: Names of the cells to play, as their folders have them; all if absent.
        answers: A run folder, or what `duelenv labels --export` wrote, whose answers cells begin with that have no
            ledger yet: where a run was moved, or its code was mended.

    Returns:
        Path of `results.parquet`.

    Raises:
        UserError: The folder belongs to another config or another process, or a cell refuses its settings.
        OutOfBudget: The labels of the whole run are spent, or its money; what is finished is put together.
        CellFailed: An oracle, an agent or a world raised an exception.
        Interrupted: Ctrl-C, or as `Terminated` SIGTERM; finished cells, answers and checkpoints are kept.
    """
    if answers is not None and not Path(answers).exists():
        raise UserError(f"No answers in {str(answers)!r}: there is no such file or folder; name another run, or a file")
    folder = RunFolder(Path(directory))
    check_better(config.metric, config.better)
    identity = identify(config)
    check_owner(folder, config, identity)
    every = cells(config)
    check_cells(only or (), every)
    todo = [cell for cell in every if not folder.cell(cell.name).finished and (not only or cell.name in only)]
    with (
        Progress(
            config.name, len(every), len(every) - len(todo), [folder.cell(cell.name).path for cell in todo], progress
        ) as shown,
        _locked(folder) as lock,
        Ending.watched(lock.ask_to_stop, shown.note) as ending,
    ):
        check_owner(folder, config, identity)  # again: until now it was not ours alone
        try:
            if todo:
                source = None if answers is None else Path(answers)
                jobs = min(config.jobs or os.cpu_count() or 1, len(todo))
                with open_backend(
                    config.backend.name,
                    config.backend.settings,
                    jobs=jobs,
                    threads=config.threads,
                    modules=config.modules,
                ) as executor:
                    _Cells(config, folder, identity, todo, shown, lock, ending, source, executor, jobs).play()
            else:
                claim(folder, config, identity)
            return assemble(config, folder.root)
        except (OutOfBudget, CellFailed, CellsRefused, WorkerDied):
            with suppress(UserError):  # nothing may be finished
                assemble(config, folder.root)
            raise
        except KeyboardInterrupt as error:
            finished = sum(folder.cell(cell.name).finished for cell in every)
            by_hand = ending.signal in (None, signal.SIGINT)
            ended = (Interrupted if by_hand else Terminated)(
                f"{'Interrupted' if by_hand else 'Terminated'} with {finished} of {len(every)} cells finished; the "
                "same command continues where it stopped"
            )
            ended.exit_code = 128 + (ending.signal or signal.SIGINT)
            raise ended from error


@contextmanager
def _locked(folder: RunFolder) -> Iterator[RunLock]:
    """Hold a run folder, made if absent; where it stays empty, as after a refusal, what was made goes again."""
    made = [path for path in (folder.root, *folder.root.parents) if not path.exists()]
    with refusals_said(folder.root):
        folder.root.mkdir(parents=True, exist_ok=True)
    try:
        with hold_run(folder.lock) as lock:
            yield lock
    finally:
        if made and [path.name for path in folder.root.iterdir()] == [folder.lock.name]:
            folder.lock.unlink()
            with suppress(OSError):  # another run has come into one of them
                for path in made:
                    path.rmdir()


class _Cells:
    """The unfinished cells of a run, and how they are played."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        identity: Identity,
        todo: list[Cell],
        shown: Progress,
        lock: RunLock,
        ending: Ending,
        answers: Path | None,
        executor: Executor,
        jobs: int,
    ) -> None:
        self.config, self.folder, self.identity = config, folder, identity
        self.todo, self.shown, self.lock, self.ending = todo, shown, lock, ending
        self.answers = answers
        self.broke = ""  # what the purse said
        self.executor, self.jobs = executor, jobs

    def play(self) -> None:
        """Play them all.

        Raises:
            OutOfBudget: The labels of the whole run are spent, or its money.
        """
        self.shown.advance(f"{self.config.name}: preparing")
        # Before anything is written, so that a setting which is refused leaves no folder behind.
        ((environment, free),) = self._each([Task(PREPARATION, prepare, (self.config,))])
        if free:
            with tempfile.TemporaryDirectory(prefix="duelenv-") as apart:
                self._check_metric(RunFolder(Path(apart)))
        answers = None if self.answers is None else read_answers(self.todo, self.answers)
        claim(self.folder, self.config, self.identity)
        add_start(self.folder.environment, environment)
        self._begin_with(answers)
        if self.config.budget.run is not None:
            held = labels.counts_by_cell(self.folder, self.config)
            start_counting(self.folder.fuse, {name: counts.spent for name, counts in held.items()})
        if not free:  # a scout asks, and what was answered once is kept
            self._check_metric(self.folder)
        unfinished = [cell.name for cell in self.todo]
        for report in self._each([Task(cell.name, run_cell, (self._task(cell),)) for cell in self.todo]):
            unfinished.remove(report.cell.name)
            for left in (self.folder.cell(report.cell.name).error, self.folder.cell(report.cell.name).refusal):
                left.unlink(missing_ok=True)
            for note in report.notes:
                self.shown.note(f"{self.config.name}: {note}")
            self.shown.finished(report)
        if unfinished:
            named = ", ".join(unfinished[:6]) + (f" and {len(unfinished) - 6} more" if len(unfinished) > 6 else "")
            left_out = (
                f"{len(unfinished)} of {len(cells(self.config))} cells are unfinished and left out of the results "
                f"({named})"
            )
            if self.broke:
                raise OutOfBudget(f"{self.broke[:1].upper()}{self.broke[1:]}; {left_out}")
            raise OutOfBudget(
                f"The next questions would exceed the run's 'budget.run' of {self.config.budget.run} labels: "
                f"{left_out}; the same command with a larger 'budget.run' goes on"
            )

    def _begin_with(self, answers: Answers | None) -> None:
        """Give answers to cells without a ledger: those that the user names, and those of cells that were removed."""
        if answers is not None:
            taken = begin_with(self.folder, self.todo, answers)
            unused = f"; {taken.strange:,} are to no question here" if taken.strange else ""
            self.shown.note(f"{self.config.name}: {taken.new:,} answers taken in from {str(self.answers)!r}{unused}")
        # Cells of fewer seeds hand theirs over themselves.
        bare = [
            cell for cell in self.todo if not any((path.path / DATABASE).exists() for path in self._task(cell).siblings)
        ]
        if bare and self.folder.labels.is_file():
            taken = begin_with(self.folder, bare, read_answers(bare, self.folder.labels))
            if taken.new:
                self.shown.note(
                    f"{self.config.name}: ledgers in {str(self.folder.cells)!r} are gone, {taken.new:,} answers taken "
                    f"from {self.folder.labels.name}; what 'evaluate' asked is asked again"
                )

    def _task(self, cell: Cell, folder: RunFolder | None = None) -> CellTask:
        return CellTask(
            self.config,
            cell,
            (folder or self.folder).cell(cell.name),
            cell_identity(self.identity, cell),
            tuple(
                self.folder.cell(Cell(cell.label, cell.seeds[:seeds]).name)
                for seeds in range(len(cell.seeds) - 1, 0, -1)
            ),
            None if self.config.budget.run is None else self.folder.fuse,
        )

    def _each(self, tasks: list[Task], lost: list[str] | None = None) -> Iterator[Any]:
        """Yield what tasks return; those that a fuse stopped return nothing, nor do those that failed.

        Args:
            tasks: What to do.
            lost: Takes the names of those that failed, if that is to be told later, when they are done once more.

        Raises:
            UserError: A setting was refused, or workers died.
            CellFailed: Something else was raised.
            KeyboardInterrupt: The run was told to end.
        """
        bad: list[Outcome] = []
        ended = outcomes(tasks, self.executor, jobs=self.jobs, lease=self.lock.lease, say=self._say)
        try:
            with self.ending.gentle():
                for outcome in ended:
                    if outcome.kind == "done":
                        yield outcome.value
                    elif outcome.kind == "blown":
                        self.broke = self.broke or outcome.message
                        # The others may have asked for all that they need.
                    elif outcome.kind != "stopped":
                        bad.append(outcome)
                        if outcome.common or self.config.fail_fast:
                            self.ending.ask()  # the others finish the round that they are in
                        elif len(tasks) > 1 and lost is None and outcome.kind != "unplaced":
                            self._say(f"{outcome.name!r} failed; the others go on")
        except KeyboardInterrupt:
            if not bad:
                raise
        if bad and (lost is None or self.ending.asked):
            left = [cell.name for cell in self.todo]
            raise Failures(self.folder, len(cells(self.config)), left, bad, self._say).told()
        if lost is not None:
            lost += [outcome.name for outcome in bad]
        if self.ending.signal is not None:
            raise KeyboardInterrupt

    def _say(self, text: str) -> None:
        self.shown.note(f"{self.config.name}: {text}")

    def _check_metric(self, folder: RunFolder) -> None:
        """Refuse a `metric` that nothing measures; cells play in a folder, apart from the run's or that one itself."""

        def scouts(tried: Sequence[Cell]) -> tuple[set[str], bool]:
            lost: list[str] = []
            tasks = [Task(cell.name, scout_cell, (self._task(cell, folder),)) for cell in tried]
            names = {name for names in self._each(tasks, lost) for name in names}
            return names, not (lost or (self.broke and not names))

        check_metric(self.config, self.folder, self.todo, scouts)
