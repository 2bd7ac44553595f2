"""The trackers of one cell: what they are told, that they are told it once, and what becomes of their failures."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.experiments.config.settings import NamedConfig
from duelenv.experiments.folder.files import write_json
from duelenv.experiments.trackers.base import TrackedCell, Tracker, make
from duelenv.ground.errors import UserError

__all__ = ["Following", "check_trackers", "figures_of"]


def check_trackers(wanted: Sequence[NamedConfig]) -> None:
    """Make each tracker once, so that what it lacks or refuses is said before a run begins.

    Raises:
        UserError: An unknown name or setting, a refused value, or a package that is missing.
    """
    for named in wanted:
        make(named.name, {key: value for key, value in named.settings.items() if key != "strict"})


class Following:
    """All trackers of a cell.

    Which step each has been told last stands in its folder beside its own files, so that a cell that goes on from an
    earlier checkpoint tells nothing twice, and a tracker that is added later is told everything.

    Args:
        wanted: Trackers by name with their settings, as in the config; `strict: true` is read here.
        cell: Which cell; `folder` is where trackers may keep files, each in one of its own name, and `id` says which
            cell it is but not in which run folder.
        config: The resolved config, in plain containers.
    """

    def __init__(self, wanted: Sequence[NamedConfig], cell: TrackedCell, config: Mapping[str, Any]) -> None:
        self._wanted, self._cell, self._config = wanted, cell, config
        self._told: list[_Told] = []

    def start(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Begin, and tell what has been measured so far and was not told before.

        Raises:
            UserError: A strict one fails.
        """
        for named in self._wanted:
            settings = dict(named.settings)
            self._told.append(_Told(named.name, bool(settings.pop("strict", False))))
            told = self._told[-1]
            told.carefully(partial(told.start, settings, self._cell, self._config))
        for record in records:
            self.log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        """Tell a record to those that have begun.

        Raises:
            UserError: A strict one fails.
        """
        for told in self._told:
            told.carefully(partial(told.log, int(record["step"]), figures_of(record)))

    def close(self, *, failed: bool) -> None:
        """End them all.

        Args:
            failed: Whether the cell ended by a failure.

        Raises:
            UserError: A strict one fails.
        """
        every, self._told = self._told, []
        for told in every:
            told.carefully(partial(told.close, failed))


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Keep the figures of a record but its step, as means over seeds; those without a finite value are left out."""
    figures = {}
    for name, value in record.items():
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
        known = values[np.isfinite(values)]
        if name != "step" and known.size:
            figures[name] = float(known.mean())
    return figures


class _Told:
    """One tracker and what it was told."""

    def __init__(self, name: str, strict: bool) -> None:
        self.name, self.strict = name, strict
        self._tracker: Tracker | None = None
        self._note: Path | None = None
        self._id, self._last = "", -1

    def start(self, settings: Mapping[str, Any], cell: TrackedCell, config: Mapping[str, Any]) -> None:
        folder = cell.folder / self.name
        folder.mkdir(parents=True, exist_ok=True)
        self._note = folder / f"{cell.name}.json"
        # Of the folder too: the same cell may be played in another one, for comparison.
        self._id = hashlib.sha256(f"{cell.id} {cell.folder.resolve()} {cell.name}".encode()).hexdigest()[:32]
        known = _read(self._note)
        if known is not None:  # a run folder may have been moved
            self._id, self._last = known
        tracker = make(self.name, settings)
        logged = self._last if self._last >= 0 else None
        tracker.start(replace(cell, id=self._id, folder=folder, logged=logged), config)
        self._tracker = tracker

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if self._tracker is None or step <= self._last:
            return
        self._tracker.log(step, figures)
        self._last = step
        if self._note is not None:
            write_json(self._note, {"id": self._id, "step": step})

    def close(self, failed: bool) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close(failed)

    def carefully(self, act: Callable[[], None]) -> None:
        """Do something with it; where that fails, the run goes on without it.

        Raises:
            UserError: It is strict and fails.
        """
        try:
            act()
        except Exception as error:
            said = " ".join(str(error).split()).rstrip(".") or "no words"
            if not isinstance(error, UserError):
                said = f"{type(error).__name__}: {said}"
            self._give_up()
            if self.strict:
                raise UserError(
                    f"the tracker {self.name!r} failed ({said}); without 'strict' the run goes on without it"
                ) from error
            # The same words for every cell, so that a process says them once.
            warnings.warn(
                f"the tracker {self.name!r} failed, and cells go on without it ({said})", RuntimeWarning, stacklevel=2
            )

    def _give_up(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        try:
            tracker.close(True)
        except Exception as error:  # what it said first is said; this belongs to it
            warnings.warn(
                f"the tracker {self.name!r} could not be closed ({type(error).__name__})", RuntimeWarning, stacklevel=2
            )


def _read(path: Path) -> tuple[str, int] | None:
    """Read the id and the last step of an earlier start; None where there is none, or its note is damaged."""
    try:
        found = json.loads(path.read_bytes())
        return str(found["id"]), int(found["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
