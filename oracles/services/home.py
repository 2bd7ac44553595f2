"""Where an oracle of a run keeps what outlives its process, and what it may spend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from duelenv.oracles.services.spending import Purse


@dataclass(frozen=True)
class Home:
    """What a run gives to an oracle whose factory has a parameter `home`; outside of runs there is none.

    Attributes:
        folder: For its files, shared by all cells of the run; it may not exist yet. None to keep nothing.
        purse: What all cells of the run may spend together.
        cell: Name of the cell that asks; its own files are named after it.
        pause: Sleeps for some seconds; in a run that was told to stop, it raises what ends the cell.
    """

    folder: Path | None = None
    purse: Purse = field(default_factory=Purse)
    cell: str = ""
    pause: Callable[[float], None] = time.sleep
