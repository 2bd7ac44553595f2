"""A small paid run that can be started, disturbed (`kills`, `damages`) and judged; for `duelenv bench faults`.

It starts the command as a user does and looks only at what is left. The oracle of these runs writes down by itself
what it is asked and what it answered, so that nobody has to take the run's word for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duelenv.experiments.faults.processes import ForkServer, Started, kill, members
from duelenv.experiments.faults.record import Death, Peace, Tally, count_labels, read_record, read_tables
from duelenv.experiments.faults.world import RECORD, make_world
from duelenv.ground.errors import UserError

__all__ = ["HANGS_AFTER", "FaultLab"]

#: Seconds after which no process of a run whose parent is dead may ask the oracle any more.
_NO_CALL_AFTER = 1.5
#: Seconds after which a start is said to hang.
HANGS_AFTER = 60.0


class FaultLab:
    """A small paid run that can be started and judged, as often as one likes; a context manager.

    Args:
        horizon: Rounds of each of the two agents, four labels each.
        milliseconds: What the oracle takes for a batch.
        nasty: Whether the texts hold what is hard about texts.

    Attributes:
        seconds: How long an undisturbed run takes, by number of jobs.
    """

    def __init__(self, *, horizon: int = 24, milliseconds: float = 4.0, nasty: bool = True) -> None:
        if not Path("/proc/self/stat").exists():
            raise UserError("'bench faults' looks for processes in /proc, which this system does not have: use Linux")
        self._horizon, self._milliseconds, self._nasty = horizon, milliseconds, nasty
        self.seconds: dict[int, float] = {}
        self._sessions: set[int] = set()
        self._trials = 0

    def __enter__(self) -> FaultLab:
        self._folder = Path(tempfile.mkdtemp(prefix="duelenv-faults-"))
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._environment = os.environ | one | {"MPLBACKEND": "Agg"}
        try:
            self._server = ForkServer(self._environment)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        try:
            self._config = make_world(self._folder, self._horizon, self._milliseconds, nasty=self._nasty)
            self._server.ask()  # it has imported everything by now
            self._undisturbed()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            for pid in members(session):
                kill(pid, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _undisturbed(self) -> None:
        """Run it once in peace: what all others are held against."""
        place = self.place()
        begun = time.monotonic()
        started = self.start(place)
        if started.wait(HANGS_AFTER) != 0:
            raise RuntimeError(f"the run failed undisturbed: {started.last_words()}\n{started.stderr()[-2000:]}")
        self.seconds[1] = time.monotonic() - begun
        self._peace = Peace.of(place / "run", place / "record")
        self.batches = self._peace.answered.total()
        alone = self.judge(place, [])
        if alone.wrong or alone.doubled or alone.lost or alone.invented or self.batches != 2 * self._horizon:
            raise RuntimeError(f"the undisturbed run does not fit its own record: {alone}")

    def measure_two_jobs(self, *, interpreter: bool = False) -> None:
        """Run it once in peace with two workers, and find the same."""
        place = self.place()
        begun = time.monotonic()
        started = self.start(place, jobs=2, interpreter=interpreter)
        started.wait(HANGS_AFTER)
        self.seconds[2] = time.monotonic() - begun
        tally = self.judge(place, [])
        if started.code != 0 or tally.wrong:
            raise RuntimeError(f"the run with two jobs failed undisturbed: {started.last_words()}, {tally.wrong}")

    def place(self) -> Path:
        """Make a new folder for a trial; it will hold `run`, `record` and what the command said."""
        self._trials += 1
        place = self._folder / f"trial-{self._trials}"
        place.mkdir()
        return place

    def start(
        self,
        place: Path,
        *,
        jobs: int = 1,
        checkpoint_seconds: float = 1e9,
        fault: dict[str, Any] | None = None,
        draw: bool = False,
        interpreter: bool = False,
    ) -> Started:
        """Start the command in a session of its own.

        Args:
            place: From `place`.
            jobs: As on the command line; with more than one there are worker processes.
            checkpoint_seconds: As in the config.
            fault: Settings of a fault that is built into the process.
            draw: Draw the figures, which takes longer than the run.
            interpreter: Start an interpreter, as a shell does, instead of a fork of one that has all imported.
        """
        self._trials += 1
        out, err = (place / f"{name}-{self._trials}" for name in ("out", "err"))
        words = ["run", str(self._config), f"checkpoint_seconds={checkpoint_seconds}"]
        words += ["--output", str(place / "run"), "--jobs", str(jobs)]
        record = {RECORD: str(place / "record")}
        if not interpreter:
            start = {"out": str(out), "err": str(err), "environment": record, "words": words}
            pid = self._server.ask(start={**start, "fault": fault, "draw": draw})
            started = Started(pid, lambda: self._server.ask(poll=pid), err)
        else:
            script = "from duelenv.experiments.faults import processes; processes.undrawn()"
            command = ["-m", "duelenv.experiments.commands.cli"] if draw else ["-c", script]
            with out.open("wb") as to, err.open("wb") as errors:
                process = subprocess.Popen(
                    [sys.executable, *command, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=to,
                    stderr=errors,
                    env=self._environment | record,
                    start_new_session=True,
                )
            started = Started(process.pid, process.poll, err)
        self._sessions.add(started.pid)
        return started

    def judge(self, place: Path, deaths: Sequence[Death]) -> Tally:
        """Hold a finished run against the undisturbed one and against the oracle's record."""
        tally = Tally()
        try:
            results, labels = read_tables(place / "run")
        except (OSError, ValueError) as error:
            tally.wrong.append(f"no results at the end: {str(error)[:200]}")
            return tally
        if results != self._peace.results:
            tally.wrong.append("the results differ")
        if labels != self._peace.labels:
            tally.wrong.append("the labels differ")
        entries = read_record(place / "record")
        count_labels(tally, entries, labels, self._peace, deaths)
        for death in deaths:
            late = [entry.time - death.died for entry in entries if entry.session == death.session]
            late = [seconds for seconds in late if seconds > _NO_CALL_AFTER]
            if late:
                tally.wrong.append(f"the oracle was asked {max(late):.1f} s after the death of the run's process")
        return tally
