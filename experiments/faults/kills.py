"""Runs that are killed, and started again at once: how they end, and how long their processes outlive them."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from duelenv.experiments.faults.lab import HANGS_AFTER, FaultLab
from duelenv.experiments.faults.processes import POLL, Started, catches_sigterm, kill, members, workers
from duelenv.experiments.faults.record import Death, Tally, read_record

__all__ = ["SIGNALS", "TARGETS", "killed"]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("parent", "worker", "group")

#: Seconds after which no process of a run whose parent is dead may live.
_GONE_AFTER = 10.0
#: Seconds in which a refused start is tried again, and between two tries.
_PATIENCE, _PAUSE = 40.0, 0.5


def killed(
    lab: FaultLab,
    generator: np.random.Generator,
    *,
    number: signal.Signals,
    target: str = "parent",
    kills: int = 3,
    jobs: int = 1,
    checkpoint_seconds: float = 1e9,
    interpreter: bool = False,
) -> Tally:
    """Kill a run several times, each time starting it again at once, and let it end.

    Args:
        lab: Where it runs.
        generator: Chooses the moments.
        number: The signal.
        target: "parent", "worker" or "group".
        kills: At most so many; a run that ends before its next one is not killed again.
        jobs: Worker processes.
        checkpoint_seconds: As in the config.
        interpreter: As in `start`.
    """
    place = lab.place()
    deaths: list[Death] = []
    tally = Tally()
    watch: dict[int, float] = {}
    where = f"{number.name} to the {target}, {jobs} job(s), checkpoint_seconds={checkpoint_seconds:g}"

    def look() -> None:
        """Measure how long the processes of dead runs live."""
        for session, died in list(watch.items()):
            if not members(session):
                tally.longest_orphan = max(tally.longest_orphan, time.monotonic() - died)
                del watch[session]

    finished = False
    refusals_since: float | None = None
    while not finished:
        started = lab.start(place, jobs=jobs, checkpoint_seconds=checkpoint_seconds, interpreter=interpreter)
        struck, hit = None, target
        if tally.faults < kills:
            ready = _moment(lab, generator, place, jobs)
            while started.poll() is None and not ready():
                look()
                time.sleep(POLL)
            if started.poll() is None:
                judged = number != signal.SIGKILL and _is_prepared(started, place)
                struck = time.monotonic()
                hit = _strike(started, number, target)
                tally.faults += 1
        end = time.monotonic() + HANGS_AFTER
        while started.poll() is None and time.monotonic() < end:
            look()
            time.sleep(POLL)
        died = time.monotonic()
        if started.code is None:
            tally.wrong.append(f"{where}: hangs for {HANGS_AFTER:g} s")
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
    judgement = lab.judge(place, deaths)
    judgement.wrong = [f"{where}: {sentence}" for sentence in judgement.wrong]
    tally.add(judgement)
    if not tally.wrong:
        tally.survived = tally.faults
    shutil.rmtree(place)
    return tally


def _moment(lab: FaultLab, generator: np.random.Generator, place: Path, jobs: int) -> Callable[[], bool]:
    """Tell when to kill: at a uniform moment of what is left, or (two jobs, mostly) after so many answers more."""
    record = place / "record"
    written = len(read_record(record))
    left = max(2, 2 * lab.batches - written)
    if jobs == 1 or generator.uniform() < 0.2:
        due = time.monotonic() + generator.uniform() * lab.seconds[jobs] * (0.3 + 0.35 * left / lab.batches)
        return lambda: time.monotonic() >= due
    lines = written + int(generator.integers(1, left))
    return lambda: record.exists() and record.read_bytes().count(b"\n") >= lines


def _is_prepared(started: Started, place: Path) -> bool:
    """Tell whether a start has come beyond what Python does by itself, so that its end can be judged."""
    if catches_sigterm(started.pid):
        return True
    return any(entry.session == started.pid for entry in read_record(place / "record"))


def _strike(started: Started, number: signal.Signals, target: str) -> str:
    """Kill, and return what was hit: the parent where there are no workers now."""
    found = workers(started.pid) if target == "worker" else []
    kill(found[-1] if found else started.pid, number, group=target == "group")
    return "parent" if target == "worker" and not found else target
