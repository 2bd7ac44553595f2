"""The check of trackers, which take the figures of a run elsewhere."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from duelenv.testing.failure import require

_FIGURES: Final = {"win_rate": 0.5, "regret_average": 1e-12, "queries": 40.0}


@dataclass(frozen=True)
class _Cell:
    run: str
    name: str
    agent: str
    seeds: Sequence[int]
    id: str
    folder: Path
    logged: int | None = None


def check_tracker(make: Callable[[], Any], folder: Path) -> None:
    """Check a tracker (`duelenv.experiments.trackers.Tracker`).

    Cells one after the other in one process, a cell that goes on, figures that come later than others, one that fails;
    what it is shown stays as it is, and so do the folder that the process is in and its environment, and no thread is
    left that would keep the process from ending.

    Args:
        make: Makes the tracker, by its settings alone.
        folder: An empty one, where it may keep files.

    Raises:
        CheckFailed: It breaks its contract.
    """
    config = {"name": "checked", "seeds": [0, 1], "agents": {"passive": {"name": "passive"}}, "policy": None}
    before = copy.deepcopy(config), dict(os.environ), Path.cwd()
    threads = set(threading.enumerate())
    first = _Cell("checked", "passive-seeds2", "passive", (0, 1), "0" * 31 + "1", folder)
    for cell, steps, failed in (
        (first, (0, 5), False),
        (replace(first, logged=5), (10,), True),
        (replace(first, name="passive+2-seed0", seeds=(0,), id="0" * 31 + "2"), (0,), False),
    ):
        tracker = make()
        returned: list[Any] = [tracker.start(cell, config)]
        for step in steps:
            figures = dict(_FIGURES) if step else {"queries": 0.0}
            shown = dict(figures)
            returned.append(tracker.log(step, shown))
            require(shown == figures, f"'log' changed the figures that it was given to {shown}")
        returned.append(tracker.close(failed))
        require(
            all(value is None for value in returned), f"a method returned {returned}, expected None: nobody reads it"
        )
    require(config == before[0], "'start' changed the config that it was given")
    require(Path.cwd() == before[2], f"the process is in {str(Path.cwd())!r} now, and was in {str(before[2])!r}")
    changed = sorted(name for name in {*os.environ, *before[1]} if os.environ.get(name) != before[1].get(name))
    require(not changed, f"the environment variables {', '.join(changed)} were changed and not put back")
    left = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
    require(not left, f"the threads {', '.join(sorted(left))} are left after 'close', which keep the process alive")
