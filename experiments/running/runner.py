"""Runs all cells of a config in a run folder, several at a time, and can be called again to go on.

Not for what happens inside a cell (`play`), how processes end (`processes`) or where things lie
(`duelenv.experiments.folder`), nor for tables and figures.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.config.cell import Cell, CellTask, cells
from duelenv.experiments.config.identity import (
    Identity,
    cell_identity,
    check_owner,
    claim,
    identify,
)
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.environment import add_start
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import RunLock, hold_run
from duelenv.experiments.results import labels
from duelenv.experiments.results.assembling import assemble
from duelenv.experiments.results.metrics import check_better, check_measured, is_measured, is_regret
from duelenv.experiments.running.answers import begin_with
from duelenv.experiments.running.fuse import start_counting
from duelenv.experiments.running.play import run_cell, scout_cell
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.processes import Ending, Outcome, Task, WorkerDied, outcomes
from duelenv.experiments.running.progress import Progress
from duelenv.ground.errors import UserError
from duelenv.ground.files import refusals_said
from duelenv.labels.ledger_file import DATABASE

__all__ = ["CellFailed", "Interrupted", "OutOfBudget", "Terminated", "run"]


#: Name of the task that makes everything once.
_PREPARATION: Final = "preparation"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; says how far it came."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM during a run, which batch systems send, or SIGHUP; says how far it came."""

    exit_code = 143


class CellFailed(RuntimeError):
    """Code that a cell runs raised an exception; says which, and where its traceback is."""

    exit_code = 1


class OutOfBudget(UserError):
    """The labels of the whole run are spent, or its money; says which cells are unfinished."""

    exit_code = 3


def run(
    config: RunConfig, directory: Path | str, *, progress: bool | None = None, answers: Path | str | None = None
) -> Path:
    """Runs what is not finished yet of `config` in `directory` and puts the results together.

    Args:
        config: The run.
        directory: Its run folder; made if absent. One that holds a run of fewer seeds or agents is extended.
        progress: Bars (True), a line per finished cell (False); by default bars on a terminal.
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
    folder = RunFolder(Path(directory))
    check_better(config.metric, config.better)
    identity = identify(config)
    check_owner(folder, config, identity)
    every = cells(config)
    todo = [cell for cell in every if not folder.cell(cell.name).finished]
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
                _Cells(config, folder, identity, todo, shown, lock, ending, source).play()
            else:
                claim(folder, config, identity)
            return assemble(config, folder.root)
        except OutOfBudget:
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
    """Hold a run folder, made if absent; one that stays empty, since a setting was refused, is removed again."""
    made = not folder.root.exists()
    with refusals_said(folder.root):
        folder.root.mkdir(parents=True, exist_ok=True)
    try:
        with hold_run(folder.lock) as lock:
            yield lock
    finally:
        if made and [path.name for path in folder.root.iterdir()] == [folder.lock.name]:
            folder.lock.unlink()
            folder.root.rmdir()


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
    ) -> None:
        self.config, self.folder, self.identity = config, folder, identity
        self.todo, self.shown, self.lock, self.ending = todo, shown, lock, ending
        self.answers = answers
        self.broke = ""  # what the purse said
        self.jobs = min(config.jobs or os.cpu_count() or 1, len(todo))

    def play(self) -> None:
        """Play them all.

        Raises:
            OutOfBudget: The labels of the whole run are spent, or its money.
        """
        self.shown.note(f"{self.config.name}: preparing")
        # Before anything is written, so that a setting which is refused leaves no folder behind.
        ((environment, free),) = self._each([Task(_PREPARATION, prepare, (self.config,))])
        if free:
            with tempfile.TemporaryDirectory(prefix="duelenv-") as apart:
                self._check_metric(RunFolder(Path(apart)))
        claim(self.folder, self.config, self.identity)
        add_start(self.folder.environment, environment)
        self._begin_with_answers()
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

    def _begin_with_answers(self) -> None:
        """Give answers to cells without a ledger: those that the user names, and those of cells that were removed."""
        if self.answers is not None:
            taken = begin_with(self.folder, self.todo, self.answers)
            unused = f"; {taken.strange:,} are to no question here" if taken.strange else ""
            self.shown.note(f"{self.config.name}: {taken.new:,} answers taken in from {str(self.answers)!r}{unused}")
        # Cells of fewer seeds hand theirs over themselves.
        bare = [
            cell for cell in self.todo if not any((path.path / DATABASE).exists() for path in self._task(cell).siblings)
        ]
        if bare and self.folder.labels.is_file():
            taken = begin_with(self.folder, bare, self.folder.labels)
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

    def _each(self, tasks: list[Task]) -> Iterator[Any]:
        """Yield what tasks return; those that a fuse stopped return nothing.

        Raises:
            UserError: A setting was refused, or a worker died.
            CellFailed: Something else was raised.
            KeyboardInterrupt: The run was told to end.
        """
        bad: Outcome | None = None
        died: WorkerDied | None = None
        ended = outcomes(
            tasks,
            backend=self.config.backend,
            jobs=self.jobs,
            threads=self.config.threads,
            lease=self.lock.lease,
        )
        try:
            with self.ending.gentle():
                for outcome in ended:
                    if outcome.kind == "done":
                        yield outcome.value
                    elif outcome.kind == "blown":
                        self.broke = self.broke or outcome.message
                        # The others may have asked for all that they need.
                    elif outcome.kind != "stopped":
                        bad = bad or outcome
                        self.ending.ask()  # the others finish the round that they are in
                    elif self.ending.signal is None and bad is None:
                        died = WorkerDied(
                            f"A worker process was told to end while it played {outcome.name!r}: no label is lost, and "
                            "the same command goes on"
                        )
                        self.ending.ask()
        except WorkerDied as error:
            died = error
        except KeyboardInterrupt:
            if bad is None and died is None:
                raise
        if bad is not None:
            raise self._failure(bad)
        if self.ending.signal is not None:
            raise KeyboardInterrupt
        if died is not None:
            raise died

    def _failure(self, outcome: Outcome) -> Exception:
        if outcome.kind == "refused":
            self._leave(self.folder.cell(outcome.name).refusal, f"{outcome.message}\n")
            about = "" if outcome.name == _PREPARATION or len(cells(self.config)) == 1 else f"{outcome.name!r}: "
            return UserError(about + outcome.message)
        path = self.folder.cell(outcome.name).error
        if outcome.name == _PREPARATION:
            failure = CellFailed(f"Before the first round, the code that the config names raised {outcome.message}")
            failure.add_note(outcome.trace)
            return failure
        where = f" (traceback in {str(path)!r})" if self._leave(path, outcome.trace) else ""
        failure = CellFailed(
            f"{outcome.name!r} stopped with {outcome.message}{where}; the same command goes on there, and once the "
            f"code is changed '--output NEW --answers {self.folder.root}' begins anew with the answers so far"
        )
        failure.add_note(outcome.trace)
        return failure

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

    def _check_metric(self, folder: RunFolder) -> None:
        """Refuse a `metric` that nothing in this run measures, as soon as that is known.

        What agents measure is not known before they have played, and not all need to measure the same. So the first
        cell plays until it knows, and the others only if it has no such figure. Of regret one cell for each world is
        enough.

        Args:
            folder: Where it plays: apart from the run, which a refusal then leaves as it was, or in the run's folder.

        Raises:
            UserError: The metric is measured nowhere.
        """
        import pyarrow.parquet as pq

        metric = self.config.metric
        if metric is None:
            return
        known: set[str] = set()
        scouts: dict[str, Cell | None] = {}  # None where a cell is finished: its results tell
        for cell in sorted(cells(self.config), key=lambda cell: cell in self.todo):
            world = json.dumps(dict(self.config.agent(cell.label).env), sort_keys=True, default=str)
            finished = cell not in self.todo
            scouts.setdefault(world if is_regret(metric) else cell.label, None if finished else cell)
            if finished:
                known |= set(pq.read_schema(self.folder.cell(cell.name).result).names) - {"agent", "seed", "step"}
        left = [cell for cell in scouts.values() if cell is not None]
        for tried in (left[:1], left[1:]):
            if tried and not is_measured(metric, known):
                tasks = [Task(cell.name, scout_cell, (self._task(cell, folder),)) for cell in tried]
                known |= {name for names in self._each(tasks) for name in names}
        if known or not self.broke:  # else nothing was played that could tell, and the caller says why
            check_measured(metric, known)
