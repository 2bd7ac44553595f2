"""What stands behind a run's digits: processors, threads, versions, commits and commands, and a caution where they mix.

Computes nothing and prints nothing.

Everything is read from the run folder, which may come from anybody: values are text, and may be anything.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.environment import starts
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.machine import players

__all__ = ["Commit", "Machine", "Provenance", "provenance_of"]

#: Packages that are named beside tables, in this order.
_SHOWN: Final = ("torch", "numpy", "transformers", "gymnasium", "duelenv")
#: What changes digits, by what to call it; packages are apart.
_ASPECTS: Final = {
    "processor": "processors",
    "torch_instructions": "instructions of torch",
    "blas_kernels": "kernels of BLAS",
    "torch_threads": "threads of torch",
    "omp_num_threads": "OMP_NUM_THREADS",
    "blas_threads": "threads of BLAS",
    "python": "versions of Python",
}
#: Packages without a part in the digits.
_NO_PART: Final = ("joblib", "pyarrow")


@dataclass(frozen=True)
class Machine:
    """What processes that played cells computed on and with; None is what nobody wrote down, or was not in use."""

    processor: str | None
    cores: str | None
    torch_instructions: str | None
    blas_kernels: str | None
    torch_threads: str | None
    omp_num_threads: str | None
    blas_threads: str | None
    python: str | None
    versions: tuple[tuple[str, str], ...]
    """Name and version of each package."""

    def text(self) -> str:
        """Write it in a line."""
        inside = [
            *([] if self.cores is None else [f"{self.cores} cores"]),
            *([] if self.blas_kernels is None else [self.blas_kernels]),
            *([] if self.torch_instructions is None else [f"torch {self.torch_instructions}"]),
        ]
        threads = [
            *([] if self.torch_threads is None else [f"torch {self.torch_threads}"]),
            f"OMP {self.omp_num_threads or 'not set'}",
            *([] if self.blas_threads is None else [f"BLAS {self.blas_threads}"]),
        ]
        known = dict(self.versions)
        versions = [f"{name} {known[name]}" for name in _SHOWN if name in known]
        processor = (self.processor or "an unknown processor") + (f" ({', '.join(inside)})" if inside else "")
        packages = ", ".join([f"python {self.python or 'unknown'}", *versions])
        return f"{processor}, threads: {', '.join(threads)}; {packages}"


@dataclass(frozen=True)
class Commit:
    """A commit, and whether anything was changed since; None where that is not known."""

    name: str
    dirty: bool | None

    def text(self) -> str:
        """Write its first seven digits, and what is known of changes."""
        since = {True: ", changed since", False: "", None: ", perhaps changed since"}[self.dirty]
        return f"{self.name[:7]}{since}"


@dataclass(frozen=True)
class Provenance:
    """What stands behind a run's digits.

    Attributes:
        machines: Those that played cells, with the number of these, most first; a cell that went on elsewhere counts
            for both.
        sources: Commits of this package at the starts, the first one first, without repetition; none if installed.
        commits: Those of the directories in which the command was given.
        commands: As typed, but for the folder of the program.
    """

    machines: tuple[tuple[Machine, int], ...]
    sources: tuple[Commit, ...]
    commits: tuple[Commit, ...]
    commands: tuple[str, ...]

    def line(self) -> str:
        """Write the facts in one line: of the last start and of the machine with most cells; empty if unknown."""
        if not self.machines:
            return ""
        machine, _ = self.machines[0]
        parts = [machine.text() + (f" ({self.sources[-1].text()})" if self.sources else "")]
        if self.commits and self.commits[-1:] != self.sources[-1:]:
            parts.append(f"in a repository at {self.commits[-1].text()}")
        return "; ".join([*parts, *self.commands[-1:]])

    def cautions(self) -> list[str]:
        """Say in sentences what was not the same for all cells; none where all of it was."""
        every = [machine for machine, _ in self.machines]
        mixed = [
            f"{meaning} ({', '.join(values)})"
            for name, meaning in _ASPECTS.items()
            if len(values := _distinct(getattr(machine, name) for machine in every)) > 1
        ]
        packages = dict.fromkeys(name for machine in every for name, _ in machine.versions)
        for name in packages:
            values = _distinct(dict(machine.versions).get(name) for machine in every)
            if name not in _NO_PART and len(values) > 1:
                mixed.append(f"versions of {name} ({', '.join(values)})")
        if len(self.sources) > 1:
            mixed.append(f"commits of duelenv ({'; '.join(commit.text() for commit in self.sources)})")
        if not mixed:
            return []
        return [
            f"cells were played with several {', '.join(mixed)}: digits may differ between these, and with them a "
            "verdict that is borderline; play the run anew in one place before it is relied on"
        ]

    def facts(self) -> dict[str, Any]:
        """Write all of it as plain mappings, lists and text, for pages and JSON."""
        return {
            "machines": [
                {**asdict(machine), "versions": dict(machine.versions), "cells": count}
                for machine, count in self.machines
            ],
            "sources": [asdict(commit) for commit in self.sources],
            "commits": [asdict(commit) for commit in self.commits],
            "commands": list(self.commands),
            "line": self.line(),
            "cautions": self.cautions(),
        }


def provenance_of(folder: RunFolder, config: RunConfig) -> Provenance:
    """Return what stands behind the finished cells of a run; of the starts, where no cell says what played it."""
    begun = starts(folder.environment)
    finished = [folder.cell(cell.name) for cell in cells(config)]
    played = [players(cell.players) for cell in finished if cell.finished]
    found = Counter(machine for every in played for machine in {_machine(one): None for one in every})
    if not found:
        found = Counter(_machine(one) for one in begun)
    return Provenance(
        tuple(found.most_common()),
        _commits(begun, "source_commit", "source_dirty"),
        _commits(begun, "commit", "dirty"),
        tuple(dict.fromkeys(_command(start["command"]) for start in begun if isinstance(start.get("command"), str))),
    )


def _machine(facts: Mapping[str, Any]) -> Machine:
    versions = facts.get("versions")
    return Machine(
        **{name: None if facts.get(name) is None else str(facts[name]) for name in (*_ASPECTS, "cores")},
        versions=tuple((str(name), str(version)) for name, version in versions.items())
        if isinstance(versions, dict)
        else (),
    )


def _commits(begun: Sequence[Mapping[str, Any]], name: str, dirty: str) -> tuple[Commit, ...]:
    known = [start for start in begun if isinstance(start.get(name), str)]
    changed = [start.get(dirty) if isinstance(start.get(dirty), bool) else None for start in known]
    return tuple(dict.fromkeys(Commit(start[name], is_dirty) for start, is_dirty in zip(known, changed, strict=True)))


def _command(line: str) -> str:
    """Shorten a command by the folder of its program; a notebook's names a file of its own kernel, and is none."""
    try:
        program, *rest = shlex.split(line)
    except ValueError:  # nothing, or no such line
        return line
    program = os.path.basename(program)
    return "from a notebook" if program == "ipykernel_launcher.py" else shlex.join([program, *rest])


def _distinct(values: Any) -> list[str]:
    return sorted({value for value in values if value is not None})
