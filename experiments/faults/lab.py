"""A small paid run that can be started, killed, damaged, starved of space, and judged; for `duelenv bench faults`.

It starts the command as a user does and looks only at what is left. The oracle of these runs writes down by itself
what it is asked and what it answered, so that nobody has to take the run's word for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.experiments.faults.injection import damage_file
from duelenv.experiments.faults.processes import POLL, ForkServer, Started, catches_sigterm, kill, members, workers
from duelenv.experiments.faults.record import Death, Peace, Tally, count_labels, read_record, read_tables
from duelenv.experiments.faults.world import RECORD, make_world
from duelenv.ground.errors import UserError

__all__ = ["SIGNALS", "TARGETS", "FaultLab", "Tally"]

#: Seconds after which no process of a run whose parent is dead may ask the oracle any more, and may live.
_NO_CALL_AFTER, _GONE_AFTER = 1.5, 10.0
#: Seconds in which a refused start is tried again, and between two tries.
_PATIENCE, _PAUSE = 40.0, 0.5
#: Seconds after which a start is said to hang.
_HANGS_AFTER = 60.0

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("parent", "worker", "group")

# The laboratory --------------------------------------------------------------------------------------------------


class FaultLab:
    """A small paid run that can be started, killed, damaged and judged; a context manager.

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
        """Runs it once in peace: what all others are held against."""
        place = self.place()
        begun = time.monotonic()
        started = self.start(place)
        if started.wait(_HANGS_AFTER) != 0:
            raise RuntimeError(f"the run failed undisturbed: {started.last_words()}\n{started.stderr()[-2000:]}")
        self.seconds[1] = time.monotonic() - begun
        self._peace = Peace.of(place / "run", place / "record")
        self.batches = self._peace.answered.total()
        alone = self.judge(place, [])
        if alone.wrong or alone.doubled or alone.lost or alone.invented or self.batches != 2 * self._horizon:
            raise RuntimeError(f"the undisturbed run does not fit its own record: {alone}")

    def measure_two_jobs(self, *, interpreter: bool = False) -> None:
        """Runs it once in peace with two workers, and finds the same."""
        place = self.place()
        begun = time.monotonic()
        started = self.start(place, jobs=2, interpreter=interpreter)
        started.wait(_HANGS_AFTER)
        self.seconds[2] = time.monotonic() - begun
        tally = self.judge(place, [])
        if started.code != 0 or tally.wrong:
            raise RuntimeError(f"the run with two jobs failed undisturbed: {started.last_words()}, {tally.wrong}")

    def place(self) -> Path:
        """A new folder for a trial; it will hold `run`, `record` and what the command said."""
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
        """Starts the command in a session of its own.

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
            command = ["-m", "duelenv.experiments.cli"] if draw else ["-c", script]
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
        """Holds a finished run against the undisturbed one and against the oracle's record."""
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

    # Kills ---------------------------------------------------------------------------------------------------------

    def killed(
        self,
        generator: np.random.Generator,
        *,
        number: signal.Signals,
        target: str = "parent",
        kills: int = 3,
        jobs: int = 1,
        checkpoint_seconds: float = 1e9,
        interpreter: bool = False,
    ) -> Tally:
        """Kills a run several times, each time starting it again at once, and lets it end.

        Args:
            generator: Chooses the moments.
            number: The signal.
            target: "parent", "worker" or "group".
            kills: At most so many; a run that ends before its next one is not killed again.
            jobs: Worker processes.
            checkpoint_seconds: As in the config.
            interpreter: As in `start`.
        """
        place = self.place()
        deaths: list[Death] = []
        tally = Tally()
        watch: dict[int, float] = {}
        where = f"{number.name} to the {target}, {jobs} job(s), checkpoint_seconds={checkpoint_seconds:g}"

        def look() -> None:
            """Measures how long the processes of dead runs live."""
            for session, died in list(watch.items()):
                if not members(session):
                    tally.longest_orphan = max(tally.longest_orphan, time.monotonic() - died)
                    del watch[session]

        finished = False
        refusals_since: float | None = None
        while not finished:
            started = self.start(place, jobs=jobs, checkpoint_seconds=checkpoint_seconds, interpreter=interpreter)
            struck, hit = None, target
            if tally.faults < kills:
                ready = self._moment(generator, place, jobs)
                while started.poll() is None and not ready():
                    look()
                    time.sleep(POLL)
                if started.poll() is None:
                    judged = number != signal.SIGKILL and self._is_prepared(started, place)
                    struck = time.monotonic()
                    hit = self._strike(started, number, target)
                    tally.faults += 1
            end = time.monotonic() + _HANGS_AFTER
            while started.poll() is None and time.monotonic() < end:
                look()
                time.sleep(POLL)
            died = time.monotonic()
            if started.code is None:
                tally.wrong.append(f"{where}: hangs for {_HANGS_AFTER:g} s")
                kill(started.pid, signal.SIGKILL, group=True)
                started.wait(5)
                break
            watch[started.pid] = died
            text = started.stderr()
            if struck is not None:
                deaths.append(Death(started.pid, struck, died))
                if "Traceback" in text and (judged or hit == "worker"):
                    tally.wrong.append(f"{where}: a traceback, {started.last_words()}")
                elif hit == "worker" and started.code != 0 and started.said() is None:
                    tally.wrong.append(f"{where}: no sentence, {started.last_words()}")
                expected = {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number)
                if judged and hit != "worker" and started.code not in (0, expected, -number):
                    tally.wrong.append(f"{where}: {started.last_words()}, expected {expected}")
                finished = started.code == 0
                refusals_since = None
                continue
            if started.code == 0:
                finished = True
            elif started.sentence() is not None:
                refusals_since = refusals_since or died
                if died - refusals_since > _PATIENCE:
                    tally.wrong.append(f"{where}: refused for {_PATIENCE:g} s, {started.sentence()}")
                    break
                time.sleep(_PAUSE)
            else:
                tally.wrong.append(f"{where}: the next start fails, {started.last_words()}")
                break
        end = time.monotonic() + _GONE_AFTER
        while watch and time.monotonic() < end:
            look()
            time.sleep(POLL)
        for session in watch:
            tally.wrong.append(f"{where}: processes live {_GONE_AFTER:g} s after their run's death")
            for pid in members(session):
                kill(pid, signal.SIGKILL)
        judgement = self.judge(place, deaths)
        judgement.wrong = [f"{where}: {sentence}" for sentence in judgement.wrong]
        tally.add(judgement)
        if not tally.wrong:
            tally.survived = tally.faults
        shutil.rmtree(place)
        return tally

    def _moment(self, generator: np.random.Generator, place: Path, jobs: int) -> Callable[[], bool]:
        """Tells when to kill: at a uniform moment of what is left, or (two jobs, mostly) after so many answers more."""
        record = place / "record"
        written = len(read_record(record))
        left = max(2, 2 * self.batches - written)
        if jobs == 1 or generator.uniform() < 0.2:
            due = time.monotonic() + generator.uniform() * self.seconds[jobs] * (0.3 + 0.35 * left / self.batches)
            return lambda: time.monotonic() >= due
        lines = written + int(generator.integers(1, left))
        return lambda: record.exists() and record.read_bytes().count(b"\n") >= lines

    def _is_prepared(self, started: Started, place: Path) -> bool:
        """Whether a start has come beyond what Python does by itself, so that its end can be judged."""
        if catches_sigterm(started.pid):
            return True
        return any(entry.session == started.pid for entry in read_record(place / "record"))

    def _strike(self, started: Started, number: signal.Signals, target: str) -> str:
        """Kills, and returns what it hit: the parent where there are no workers now."""
        found = workers(started.pid) if target == "worker" else []
        kill(found[-1] if found else started.pid, number, group=target == "group")
        return "parent" if target == "worker" and not found else target

    # Damage --------------------------------------------------------------------------------------------------------

    def left_behind(self, share: float, *, checkpoint_seconds: float = 1e9, draw: bool = False) -> Path:
        """A trial folder whose run was killed after this share of the answers, or with 1 has ended in peace."""
        place = self.place()
        started = self.start(place, checkpoint_seconds=checkpoint_seconds, draw=draw)
        record, lines = place / "record", 2 * round(share * self.batches)
        while started.poll() is None:
            if share < 1 and record.exists() and record.read_bytes().count(b"\n") >= lines:
                kill(started.pid, signal.SIGKILL, group=True)
                started.wait(5)
            time.sleep(POLL / 4)
        (place / "death.json").write_text(json.dumps([started.pid, time.monotonic()]), encoding="utf-8")
        return place

    def damaged(
        self,
        left: Path,
        names: Sequence[str],
        damage: str,
        generator: np.random.Generator,
        *,
        checkpoint_seconds: float = 1e9,
        draw: bool = False,
    ) -> Tally:
        """Damages files of a copy of a trial's run folder, and runs the same command again.

        Args:
            left: From `left_behind`.
            names: The files, from the run folder.
            damage: One of `DAMAGES`.
            generator: Chooses the bit to flip.
            checkpoint_seconds: As in the config.
            draw: Draw the figures too.
        """
        place = self.place()
        session, died = json.loads((left / "death.json").read_text(encoding="utf-8"))
        deaths = [Death(session, died, died)]
        shutil.copytree(left / "run", place / "run")
        shutil.copy(left / "record", place / "record")
        paths = [place / "run" / name for name in names]
        before = {path: path.read_bytes() for path in paths}
        for path in paths:
            damage_file(path, damage, generator)
        tally = Tally(faults=1)
        where = f"{', '.join(names)} {damage}"
        started = self.start(place, checkpoint_seconds=checkpoint_seconds, draw=draw)
        started.wait(_HANGS_AFTER)
        sentence = started.sentence()
        if started.code == 0:
            tally.survived = 1
        elif sentence is not None:
            tally.refused = 1
            if not any(path.name in sentence for path in paths):
                tally.wrong.append(f"{where}: refused without naming the file, {sentence}")
            # Nothing is made worse by it: with the file back in its place, all goes on.
            for path, content in before.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            started = self.start(place, checkpoint_seconds=checkpoint_seconds)
            if started.wait(_HANGS_AFTER) != 0:
                tally.wrong.append(f"{where}: refused, and also with the file back, {started.last_words()}")
        else:
            tally.wrong.append(f"{where}: {started.last_words()}")
        if started.code == 0:
            judgement = self.judge(place, deaths)
            judgement.wrong = [f"{where}: {sentence}" for sentence in judgement.wrong]
            if judgement.doubled:
                judgement.wrong.append(f"{where}: {judgement.doubled} labels are paid twice")
            if judgement.wrong:
                tally.survived = 0
            tally.add(judgement)
        if started.code is None:
            kill(started.pid, signal.SIGKILL, group=True)
            started.wait(5)
        shutil.rmtree(place)
        return tally

    def files(self, left: Path) -> list[str]:
        """The files of a trial's run folder, in order."""
        root = left / "run"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def calls(self, kind: str, *, checkpoint_seconds: float = 1e9) -> int:
        """How many calls of a kind an undisturbed run makes in its folder."""
        place = self.place()
        fault = {"kind": kind, "number": 0, "folder": str(place / "run"), "note": str(place / "fired")}
        self.start(place, checkpoint_seconds=checkpoint_seconds, fault=fault).wait(_HANGS_AFTER)
        noted = place / "fired"
        if kind == "size":
            biggest = max((path.stat().st_size for path in (place / "run").rglob("*") if path.is_file()), default=0)
            noted.write_text(str(biggest // 4096), encoding="ascii")
        count = int(noted.read_text(encoding="ascii")) if noted.exists() else 0
        shutil.rmtree(place)
        return count

    def starved(self, kind: str, number: int, *, checkpoint_seconds: float = 1e9, deadly: bool = False) -> Tally | None:
        """Lets one call of a run fail for want of space, and runs the same command again with enough of it.

        Args:
            kind: One of `WRITES`.
            number: Which call of that kind, from 1.
            checkpoint_seconds: As in the config.
            deadly: The process is killed at this call instead.

        Returns:
            What became of it, or None if the run makes no so many calls.
        """
        place = self.place()
        where = f"killed at {kind} number {number}" if deadly else f"{kind} number {number} fails"
        fault = {"kind": kind, "number": number, "folder": str(place / "run"), "note": str(place / "fired")}
        fault["deadly"] = deadly
        started = self.start(place, checkpoint_seconds=checkpoint_seconds, fault=fault)
        started.wait(_HANGS_AFTER)
        died = time.monotonic()
        if not (place / "fired").exists() or (kind == "size" and started.code == 0):
            shutil.rmtree(place)
            return None
        tally = Tally(faults=1)
        if started.code is None:
            tally.wrong.append(f"{where}: hangs")
            kill(started.pid, signal.SIGKILL, group=True)
            started.wait(5)
        elif started.sentence() is not None:
            tally.refused = 1
        elif deadly:
            assert started.code == -signal.SIGKILL
        elif started.code != 0 or "Traceback" in started.stderr():
            tally.wrong.append(f"{where}: {started.last_words()}")
        deaths = [] if started.code == 0 else [Death(started.pid, died, died)]
        started = self.start(place, checkpoint_seconds=checkpoint_seconds)
        if started.wait(_HANGS_AFTER) != 0:
            tally.wrong.append(f"{where}: and then, with enough space, {started.last_words()}")
        judgement = self.judge(place, deaths)
        judgement.wrong = [f"{where}: {sentence}" for sentence in judgement.wrong]
        if judgement.doubled:
            judgement.wrong.append(f"{where}: {judgement.doubled} labels are paid twice")
        tally.add(judgement)
        tally.survived = int(not tally.wrong)
        shutil.rmtree(place)
        return tally
