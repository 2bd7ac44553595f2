"""Dask: a cluster on this machine, or one whose scheduler is named."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from duelenv.experiments.running.backends.local import thread_variables
from duelenv.experiments.running.backends.watched import Watched
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["CONFIG", "dask_backend", "imported"]

#: Of schedulers that are started here. Who waits for a cell counts how often its worker died.
CONFIG: Final = {"distributed.scheduler.allowed-failures": 0}
#: Seconds that a scheduler may take to answer.
_ANSWER_SECONDS: Final = 30.0
#: Workers may wait in a queue of their own before they come.
_WORKER_SECONDS: Final = 300.0
#: Seconds between two looks at the workers.
_LOOK_SECONDS: Final = 2.0


@contextmanager
def dask_backend(
    jobs: int, threads: int, scheduler: str | None = None, worker_seconds: float = _WORKER_SECONDS
) -> Iterator[Executor]:
    """Give workers of Dask.

    Args:
        jobs: Workers of a cluster on this machine; of another one, cells at the same time.
        threads: Of numeric libraries in each worker that is started here; others are set up by whoever starts them.
        scheduler: Address of a cluster that runs already and sees the run folder under the same path, such as
            "tcp://10.0.0.1:8786"; if absent, one is started here, on loopback, and ended with the run.
        worker_seconds: Longest time in which the cluster of a scheduler has no worker, five minutes if absent; what is
            not played by then ends with `NoWorkers`, as where the scheduler goes away.

    Raises:
        UserError: Dask is missing, or no scheduler answers.
    """
    distributed = imported("distributed", "dask")
    patience = checks.number("'backend.worker_seconds'", worker_seconds, above=0.0)
    if scheduler is not None:
        checks.text("'backend.scheduler'", scheduler)
        try:
            with ThreadPoolExecutor(1) as apart:  # a notebook has an event loop already
                apart.submit(asyncio.run, _greet(distributed, scheduler)).result()
            client = distributed.Client(scheduler)
        except (OSError, ValueError) as error:
            raise UserError(
                f"No Dask scheduler answers at {scheduler!r} ({error}): start 'dask scheduler', or correct "
                "'backend.scheduler'"
            ) from error
        with client:
            executor = Watched(client.get_executor(pure=False), _look_at(client, scheduler, patience), _LOOK_SECONDS)
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)
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


async def _greet(distributed: Any, scheduler: str) -> None:
    """Meet a scheduler in bounded time: for whatever takes a connection and says nothing Dask waits without end."""
    client = distributed.Client(scheduler, timeout=_ANSWER_SECONDS, asynchronous=True, set_as_default=False)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS + 1.0):
            await client
    except TimeoutError:
        raise OSError(f"what is there does not greet Dask within {_ANSWER_SECONDS:g} s") from None
    finally:
        await client.close(timeout=1.0)


def _look_at(client: Any, scheduler: str, patience: float) -> Callable[[], str | None]:
    """Make what says why there will be no worker; it returns None where there is one, or may be.

    Args:
        client: Of the cluster.
        scheduler: Its address.
        patience: Longest time without any worker, in seconds.
    """
    since = time.monotonic()

    def look() -> str | None:
        nonlocal since
        if client.status in ("closing", "closed"):
            return f"the Dask scheduler at {scheduler!r} went away; start it, then the run again"
        lacks = "had no worker"
        try:
            if client.nthreads():
                since = time.monotonic()
        except Exception:  # of whatever kind: it may answer the next time
            lacks = "did not answer"
        if time.monotonic() - since <= patience:
            return None
        return (
            f"the Dask scheduler at {scheduler!r} {lacks} for {patience:g} s; start workers with 'dask worker "
            f"{scheduler}', or give more 'backend.worker_seconds'"
        )

    return look


def imported(module: str, extra: str) -> ModuleType:
    """Import what an extra brings.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"'backend' {extra!r} needs {module}: pip install 'duelenv[{extra}]'") from error
