"""Runs whose files are damaged and runs that are starved of space: they heal, or say in a sentence what is wrong."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duelenv.experiments.faults.injection import damage_file
from duelenv.experiments.faults.lab import HANGS_AFTER, FaultLab
from duelenv.experiments.faults.processes import POLL, kill
from duelenv.experiments.faults.record import Death, Tally

__all__ = ["calls_of", "damaged", "files_of", "left_behind", "starved"]


def left_behind(lab: FaultLab, share: float, *, checkpoint_seconds: float = 1e9, draw: bool = False) -> Path:
    """Make a trial folder whose run was killed after this share of the answers, or with 1 has ended in peace."""
    place = lab.place()
    started = lab.start(place, checkpoint_seconds=checkpoint_seconds, draw=draw)
    record, lines = place / "record", 2 * round(share * lab.batches)
    while started.poll() is None:
        if share < 1 and record.exists() and record.read_bytes().count(b"\n") >= lines:
            kill(started.pid, signal.SIGKILL, group=True)
            started.wait(5)
        time.sleep(POLL / 4)
    (place / "death.json").write_text(json.dumps([started.pid, time.monotonic()]), encoding="utf-8")
    return place


def damaged(
    lab: FaultLab,
    left: Path,
    names: Sequence[str],
    damage: str,
    generator: np.random.Generator,
    *,
    checkpoint_seconds: float = 1e9,
    draw: bool = False,
) -> Tally:
    """Damage files of a copy of a trial's run folder, and run the same command again.

    Args:
        lab: Where it runs.
        left: From `left_behind`.
        names: The files, from the run folder.
        damage: One of `DAMAGES`.
        generator: Chooses the bit to flip.
        checkpoint_seconds: As in the config.
        draw: Draw the figures too.
    """
    place = lab.place()
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
    started = lab.start(place, checkpoint_seconds=checkpoint_seconds, draw=draw)
    started.wait(HANGS_AFTER)
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
        started = lab.start(place, checkpoint_seconds=checkpoint_seconds)
        if started.wait(HANGS_AFTER) != 0:
            tally.wrong.append(f"{where}: refused, and also with the file back, {started.last_words()}")
    else:
        tally.wrong.append(f"{where}: {started.last_words()}")
    if started.code == 0:
        judgement = lab.judge(place, deaths)
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


def files_of(left: Path) -> list[str]:
    """List the files of a trial's run folder, in order."""
    root = left / "run"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def calls_of(lab: FaultLab, kind: str, *, checkpoint_seconds: float = 1e9) -> int:
    """Count how many calls of a kind an undisturbed run makes in its folder."""
    place = lab.place()
    fault = {"kind": kind, "number": 0, "folder": str(place / "run"), "note": str(place / "fired")}
    lab.start(place, checkpoint_seconds=checkpoint_seconds, fault=fault).wait(HANGS_AFTER)
    noted = place / "fired"
    if kind == "size":
        biggest = max((path.stat().st_size for path in (place / "run").rglob("*") if path.is_file()), default=0)
        noted.write_text(str(biggest // 4096), encoding="ascii")
    count = int(noted.read_text(encoding="ascii")) if noted.exists() else 0
    shutil.rmtree(place)
    return count


def starved(
    lab: FaultLab, kind: str, number: int, *, checkpoint_seconds: float = 1e9, deadly: bool = False
) -> Tally | None:
    """Let one call of a run fail for want of space, and run the same command again with enough of it.

    Args:
        lab: Where it runs.
        kind: One of `WRITES`.
        number: Which call of that kind, from 1.
        checkpoint_seconds: As in the config.
        deadly: The process is killed at this call instead.

    Returns:
        What became of it, or None if the run makes no so many calls.
    """
    place = lab.place()
    where = f"killed at {kind} number {number}" if deadly else f"{kind} number {number} fails"
    fault = {"kind": kind, "number": number, "folder": str(place / "run"), "note": str(place / "fired")}
    fault["deadly"] = deadly
    started = lab.start(place, checkpoint_seconds=checkpoint_seconds, fault=fault)
    started.wait(HANGS_AFTER)
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
    started = lab.start(place, checkpoint_seconds=checkpoint_seconds)
    if started.wait(HANGS_AFTER) != 0:
        tally.wrong.append(f"{where}: and then, with enough space, {started.last_words()}")
    judgement = lab.judge(place, deaths)
    judgement.wrong = [f"{where}: {sentence}" for sentence in judgement.wrong]
    if judgement.doubled:
        judgement.wrong.append(f"{where}: {judgement.doubled} labels are paid twice")
    tally.add(judgement)
    tally.survived = int(not tally.wrong)
    shutil.rmtree(place)
    return tally
