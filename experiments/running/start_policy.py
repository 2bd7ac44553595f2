"""The policy that the cells of a run start from, loaded once a worker; and the threads that a cell may use."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running import assembly

__all__ = ["start_policy", "threads_of"]


@contextmanager
def threads_of(config: RunConfig) -> Iterator[None]:
    """Limit torch's threads for the time of a cell, where the cell needs torch."""
    if config.policy is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _OfThread(threading.local):
    """The start policy of the last config in this thread: a worker runs many cells of one run.

    Not of the process, as threads may be workers too: copies of a policy share its frozen models, whose pass over
    shared prompts changes how the model attends for as long as it lasts.
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}


_of_thread = _OfThread()
#: Toys are trained and models made from torch's one global stream.
_making = threading.Lock()


def start_policy(config: RunConfig) -> Any:
    """Make a fresh copy of the start policy, or None in a world without one."""
    if config.policy is None:
        return None
    key = json.dumps([config.policy.name, dict(config.policy.settings)], sort_keys=True, default=str)
    made = _of_thread.made
    if key not in made:
        made.clear()
        with _making:
            made[key] = assembly.make_policy(config)
    return made[key].clone()
