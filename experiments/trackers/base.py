"""What a tracker is, and trackers by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, overload

from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = ["TRACKERS", "TrackedCell", "Tracker", "make", "names", "needing", "register", "variable_set"]

Factory = Callable[..., "Tracker"]
Own = TypeVar("Own", bound=Factory)


@dataclass(frozen=True)
class TrackedCell:
    """A cell, as a tracker knows it.

    Attributes:
        run: Name of the run.
        name: Of the cell, unique in the run.
        agent: Label of its agent.
        seeds: One, or one per replicate.
        id: The same whenever this cell of this run folder goes on, and no other cell's: 32 hexadecimal digits.
        folder: Where this tracker may keep files, in the run folder; all cells of the run share it, perhaps at the same
            time. It exists.
        logged: The last step that an earlier start has logged; None where there was none.
    """

    run: str
    name: str
    agent: str
    seeds: Sequence[int]
    id: str
    folder: Path
    logged: int | None = None


class Tracker(Protocol):
    """Takes the figures of one cell; made anew, by its settings alone, for each start of each cell.

    Whatever a method raises is said once and the run goes on without this tracker, unless it is `strict`.
    `duelenv.testing.check_tracker` holds a tracker to it.
    """

    def start(self, cell: TrackedCell, config: Mapping[str, Any]) -> None:
        """Begin, or go on after `cell.logged`.

        Args:
            cell: Which.
            config: The resolved config of the run, in plain containers.
        """

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take what was measured after a round.

        Args:
            step: Rounds played; each is told once, in increasing order.
            figures: By name, means over the cell's seeds; all finite.
        """

    def close(self, failed: bool) -> None:
        """End; nothing of it is left running.

        Args:
            failed: Whether the cell ended by a failure; false where it is finished, and where it was told to stop.
        """


TRACKERS: Final[Registry[Factory]] = Registry(
    "tracker",
    {
        "mlflow": "duelenv.experiments.trackers.mlflow:MLflow",
        "tensorboard": "duelenv.experiments.trackers.tensorboard:TensorBoard",
        "wandb": "duelenv.experiments.trackers.wandb:WeightsAndBiases",
    },
)


@overload
def register(name: str) -> Callable[[Own], Own]: ...


@overload
def register(name: str, factory: Factory) -> None: ...


def register(name: str, factory: Factory | None = None) -> Any:
    """Add a tracker by a name for `trackers: [NAME]`; without a factory, as a decorator.

    Args:
        name: The name.
        factory: A class or a function of the tracker's settings, by keyword.

    Raises:
        UserError: Another tracker has the name.
    """
    return TRACKERS.register(name) if factory is None else TRACKERS.register(name, factory)


def names() -> tuple[str, ...]:
    """Return the names of all trackers, sorted."""
    return TRACKERS.names()


def make(name: str, settings: Mapping[str, Any]) -> Tracker:
    """Make a tracker; nothing begins yet.

    Raises:
        UserError: An unknown name or setting, a value that it refuses, or a package that it needs is missing.
    """
    made: Tracker = TRACKERS.make(name, settings, besides=("strict",))
    return made


@contextmanager
def needing(name: str, extra: str) -> Iterator[None]:
    """Say what is missing where a tracker's client is imported.

    Raises:
        UserError: A package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"the tracker {name!r} needs the package {error.name or extra!r}; pip install 'duelenv[{extra}]'"
        ) from error


@contextmanager
def variable_set(name: str, value: str | None) -> Iterator[None]:
    """Set a variable of the environment that a client reads while it starts, and put it back; None leaves it alone."""
    if value is None:
        yield
        return
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
