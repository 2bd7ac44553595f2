"""The policy that the cells of a run start from, loaded once a process; and the threads that a cell may use."""

from __future__ import annotations

import json
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


#: The start policy of the last config in this process: a worker runs many cells of one run.
_start_policy: dict[str, Any] = {}


def start_policy(config: RunConfig) -> Any:
    """Make a fresh copy of the start policy, or None in a world without one."""
    if config.policy is None:
        return None
    key = json.dumps([config.policy.name, dict(config.policy.settings)], sort_keys=True, default=str)
    if key not in _start_policy:
        _start_policy.clear()
        _start_policy[key] = assembly.make_policy(config)
    return _start_policy[key].clone()
