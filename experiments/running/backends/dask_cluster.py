"""Dask: a cluster on this machine, or one whose scheduler is named."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from duelenv.experiments.running.backends.local import thread_variables
from duelenv.ground.errors import UserError

__all__ = ["CONFIG", "dask_backend", "imported"]

#: Of schedulers that are started here. Who waits for a cell counts how often its worker died.
CONFIG: Final = {"distributed.scheduler.allowed-failures": 0}


@contextmanager
def dask_backend(jobs: int, threads: int, scheduler: str | None = None) -> Iterator[Executor]:
    """Give workers of Dask.

    Args:
        jobs: Workers of a cluster on this machine; of another one, cells at the same time.
        threads: Of numeric libraries in each worker that is started here; others are set up by whoever starts them.
        scheduler: Address of a cluster that runs already and sees the run folder under the same path, such as
            "tcp://10.0.0.1:8786"; if absent, one is started here, on loopback, and ended with the run.

    Raises:
        UserError: Dask is missing, or no scheduler answers.
    """
    distributed = imported("distributed", "dask")
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler)
        except (OSError, ValueError) as error:
            raise UserError(
                f"No Dask scheduler answers at {scheduler!r} ({error}): start 'dask scheduler', or correct "
                "'backend.scheduler'"
            ) from error
        with client:
            yield client.get_executor(pure=False)
        return
    import dask

    with (
        dask.config.set(CONFIG),
        distributed.LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            env=thread_variables(threads),
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def imported(module: str, extra: str) -> ModuleType:
    """Import what an extra brings.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"'backend' {extra!r} needs {module}: pip install 'duelenv[{extra}]'") from error
