"""What a cell of a run is: one agent in one environment; how many there are, and what is told of one that is finished.

A cell is played by `duelenv.experiments.running.play`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import CellFolder

__all__ = ["Cell", "CellReport", "CellTask", "cells"]


@dataclass(frozen=True)
class Cell:
    """One agent with one seed, or with all seeds as replicates of one environment."""

    label: str
    """Label of the agent."""
    seeds: tuple[int, ...]
    """The seed, or one per replicate."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.label}-seed{self.seeds[0]}" if len(self.seeds) == 1 else f"{self.label}-seeds{len(self.seeds)}"


@dataclass(frozen=True)
class CellTask:
    """A cell to be played, with all that a worker needs for it."""

    config: RunConfig
    cell: Cell
    folder: CellFolder
    identity: str
    """What the cell is, see `duelenv.experiments.config.identity`."""
    siblings: tuple[CellFolder, ...] = ()
    """Folders of the same agent with fewer of the same seeds, whose answers hold here too."""
    fuse: Path | None = None
    """Where all cells count what they spend, if the run has a limit."""


@dataclass(frozen=True)
class CellReport:
    """What the runner is told of a finished cell."""

    cell: Cell
    seconds: float
    """Time of the rounds, without evaluation."""
    figure: str
    """The metric that matters, as text."""
    notes: tuple[str, ...] = field(default=())
    """What was made good, as sentences."""


def cells(config: RunConfig) -> list[Cell]:
    """List all cells of a run; seeds go round slowest, so that every agent is tried early."""
    if config.replicated:
        return [Cell(agent.label, config.seeds) for agent in config.agents]
    return [Cell(agent.label, (seed,)) for seed in config.seeds for agent in config.agents]
