"""Kills, cuts and starves small paid runs and counts what becomes of their labels; `duelenv bench faults`. Linux only.

What is done to a run is in `kills` and `damages`, how it is started and judged in `lab`; here is what is tried, and the
table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from duelenv.experiments.faults.damages import calls_of, damaged, files_of, left_behind, starved
from duelenv.experiments.faults.injection import DAMAGES, WRITES
from duelenv.experiments.faults.kills import SIGNALS, TARGETS, killed
from duelenv.experiments.faults.lab import FaultLab
from duelenv.experiments.faults.record import Tally
from duelenv.ground.errors import UserError

__all__ = ["FaultLine", "bench_faults", "fault_table"]


@dataclass(frozen=True)
class FaultLine:
    """A line of the table: a kind of fault."""

    fault: str
    tally: Tally


def bench_faults(
    *,
    kills: int = 300,
    seed: int = 0,
    two_jobs: float = 0.2,
    damages: int | None = None,
    writes: int | None = 40,
    nasty: bool = True,
    note: Callable[[str], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[FaultLine]:
    """Try all kinds of faults on small paid runs.

    Args:
        kills: Processes to kill.
        seed: Of the moments, files and bits.
        two_jobs: Share of the kills in runs with two worker processes.
        damages: Damaged files, drawn from all files, kinds of damage and both states of a run; None tries all.
        writes: At most so many calls of each kind that fail, or kill; None tries all, which takes long.
        nasty: Whether the texts hold what is hard about texts.
        note: Is told what went wrong, a line of the table at a time.
        progress: Is told how far it has come.

    Yields:
        A line for each kind of fault.

    Raises:
        UserError: A system without /proc, or nothing to do.
    """
    if kills < 0:
        raise UserError(f"'kills' is {kills}, expected 0 or more")
    tell, show = note or _silent, progress or _silent
    with FaultLab(nasty=nasty) as lab:
        for line in _kill_lines(lab, kills, seed, two_jobs, show):
            _tell(tell, line, seed)
            yield line
        for line in _damage_lines(lab, seed, damages, show):
            _tell(tell, line, seed)
            yield line
    if writes == 0:
        return
    with FaultLab(horizon=6, milliseconds=1.0, nasty=nasty) as lab:
        for line in _write_lines(lab, seed, writes, show):
            _tell(tell, line, seed)
            yield line


def _silent(text: str) -> None:
    """Say nothing."""


def _tell(note: Callable[[str], None], line: FaultLine, seed: int) -> None:
    for sentence in line.tally.wrong:
        note(f"seed {seed}: {line.fault}: {sentence}")


def _kill_lines(
    lab: FaultLab, kills: int, seed: int, two_jobs: float, show: Callable[[str], None]
) -> Iterator[FaultLine]:
    """Kill runs with one job and with two, a line for each signal and target."""
    for jobs, wanted in ((1, kills - round(two_jobs * kills)), (2, round(two_jobs * kills))):
        targets = ("parent",) if jobs == 1 else TARGETS
        # With two jobs a diagonal first, so that a few kills meet every signal and every target.
        kinds = [
            (number, targets[(place + turn) % len(targets)])
            for turn in range(len(targets))
            for place, number in enumerate(SIGNALS)
        ]
        tallies = {kind: Tally() for kind in kinds}
        done = trial = 0
        if wanted and jobs == 2:
            lab.measure_two_jobs()
        while done < wanted:
            generator = np.random.default_rng([seed, jobs, trial])
            number, target = kinds[trial % len(kinds)]
            tally = killed(
                lab,
                generator,
                number=number,
                target=target,
                kills=min(wanted - done, 2 if jobs == 2 else int(generator.integers(2, 5))),
                jobs=jobs,
                checkpoint_seconds=float(generator.choice([0.0, 1e9])),
                interpreter=jobs == 2 and trial % 4 == 0,
            )
            tally.wrong = [f"trial {trial}: {sentence}" for sentence in tally.wrong]
            tallies[number, target].add(tally)
            done += tally.faults
            trial += 1
            show(f"{done:,} of {wanted:,} kills, {'1 job' if jobs == 1 else '2 jobs'}")
            if trial > 20 * (wanted + 1):
                raise RuntimeError("runs end before they can be killed")
        for (number, target), tally in sorted(tallies.items(), key=lambda item: kinds.index(item[0])):
            if tally.faults:
                where = (
                    "" if jobs == 1 else f" to the {target}, 2 jobs" if target != "worker" else " to a worker, 2 jobs"
                )
                yield FaultLine(f"{number.name}{where}", tally)


#: What processes are killed at.
_CALLS = {
    "open": "the opening of a file",
    "write": "a write",
    "fsync": "an fsync",
    "replace": "a replace",
    "commit": "an SQLite commit",
}
#: Runs whose files are damaged: share of the answers after which they were killed, and `checkpoint_seconds`.
_STATES = {"half-finished": (0.75, 0.0), "without checkpoints": (0.25, 1e9), "finished": (1.0, 0.0)}


def _is_shown(name: str) -> bool:
    """Tell whether a file is for people, and written anew by each start."""
    return name.startswith(("figures", "report.html", "table.", "regret."))


def _damage_lines(lab: FaultLab, seed: int, damages: int | None, show: Callable[[str], None]) -> Iterator[FaultLine]:
    """Damage files in a half-finished run and a finished one, a line for each kind of damage."""
    if damages == 0:
        return
    generator = np.random.default_rng([seed, 3])
    left = {
        state: left_behind(lab, share, checkpoint_seconds=pause, draw=share == 1.0 and damages is None)
        for state, (share, pause) in _STATES.items()
    }
    cases: list[tuple[str, list[str], str]] = [
        (state, [name], damage)
        for state, place in left.items()
        for name in files_of(place)
        if not _is_shown(name)
        for damage in (*DAMAGES, *["one bit flipped"] * 2)
    ]
    if damages is not None:
        cases = [cases[index] for index in sorted(generator.permutation(len(cases))[:damages])]
    shown = [name for name in files_of(left["finished"]) if _is_shown(name)]
    # These are written anew by every start, so that one case for each kind of damage tells as much as one for each.
    cases += [("finished", shown, damage) for damage in (DAMAGES if damages is None else DAMAGES[:1])]
    tallies = {damage: Tally() for damage in DAMAGES}
    for done, (state, names, damage) in enumerate(cases):
        show(f"{done:,} of {len(cases):,} damages")
        drawn = names is shown and damages is None
        tally = damaged(lab, left[state], names, damage, generator, checkpoint_seconds=_STATES[state][1], draw=drawn)
        tally.wrong = [f"{state} run, {sentence}" for sentence in tally.wrong]
        tallies[damage].add(tally)
    for damage, tally in tallies.items():
        if tally.faults:
            yield FaultLine(f"a file {damage}", tally)


def _write_lines(lab: FaultLab, seed: int, writes: int | None, show: Callable[[str], None]) -> Iterator[FaultLine]:
    """Try calls at which writing fails, then those at which the process is killed, a line for each kind."""
    generator = np.random.default_rng([seed, 4])
    for deadly in (False, True):
        for kind, name in WRITES.items():
            if deadly and kind == "size":
                continue
            count = calls_of(lab, kind, checkpoint_seconds=0.0)
            chosen = generator.permutation(count)[:writes]
            tally = Tally()
            for number in sorted(int(number) + 1 for number in chosen):
                show(f"{name}: {number:,} of {count:,}{', deadly' if deadly else ''}")
                one = starved(lab, kind, number, checkpoint_seconds=0.0, deadly=deadly)
                if one is not None:
                    tally.add(one)
            if tally.faults:
                yield FaultLine(f"killed at {_CALLS[kind]}" if deadly else name, tally)


_HEADER = ("fault", "tried", "survived", "refused", "lost", "doubled", "invented", "in flight", "asked again", "wrong")


def _cells(lines: Sequence[FaultLine]) -> list[list[str]]:
    total = Tally()
    rows = []
    for line in lines:
        total.add(line.tally)
    for line in [*lines, FaultLine("all", total)]:
        tally = line.tally
        counts = [
            *(tally.faults, tally.survived, tally.refused, tally.lost, tally.doubled, tally.invented),
            *(tally.in_flight, tally.asked_again, len(tally.wrong)),
        ]
        rows.append([line.fault, *(f"{count:,}" for count in counts)])
    return rows


def fault_table(lines: Sequence[FaultLine], *, markdown: bool = False) -> str:
    """Write the table of what was tried, with a line of sums, for a terminal or for the documentation."""
    rows = _cells(lines)
    if markdown:
        rule = [":--", *["--:"] * (len(_HEADER) - 1)]
        return "\n".join("| " + " | ".join(row) + " |" for row in [_HEADER, rule, *rows]) + "\n"
    wide = max(len(row[0]) for row in [list(_HEADER), *rows]) + 2
    head, *body = [
        row[0].ljust(wide) + "".join(cell.rjust(len(name) + 2) for cell, name in zip(row[1:], _HEADER[1:], strict=True))
        for row in [list(_HEADER), *rows]
    ]
    longest = max((line.tally.longest_orphan for line in lines), default=0.0)
    notes = (
        "tried: kills, damaged files, failing calls; survived: the same command went on to equal results and labels; "
        "refused: ended in one sentence and exit code 2;\n"
        "lost, doubled, invented, in flight (answered in the moment of "
        f"its process's death), asked again: labels. Processes of a dead run lived on for {longest:.1f} s at most."
    )
    return "\n".join([head, "-" * len(head), *body, "", notes])
