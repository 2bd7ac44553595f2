"""Dask: a cluster on this machine, one whose scheduler is named, or one whose workers are jobs of SLURM."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from duelenv.experiments.running.backends.local import thread_variables
from duelenv.ground.errors import UserError

__all__ = ["dask_backend", "slurm_backend"]

#: Of schedulers that are started here. Who waits for a cell counts how often its worker died.
_CONFIG: Final = {"distributed.scheduler.allowed-failures": 0}
_MEMORY: Final = "4GB"


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
    distributed = _imported("distributed", "dask")
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
        dask.config.set(_CONFIG),
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


@contextmanager
def slurm_backend(jobs: int, threads: int, memory: str = _MEMORY, **settings: Any) -> Iterator[Executor]:
    """Give workers of Dask that are jobs of SLURM, one each, submitted here and cancelled with the run.

    The run folder has to be on a file system that all of them see, with locks (`flock`).

    Args:
        jobs: Jobs to submit.
        threads: Cores and threads of each.
        memory: Of each, as Dask writes it.
        **settings: Of `dask_jobqueue.SLURMCluster`: `queue`, `account`, `walltime`, `interface`,
            `job_extra_directives`, ...

    Raises:
        UserError: dask-jobqueue is missing or refuses a setting, or there is no `sbatch`.
    """
    jobqueue = _imported("dask_jobqueue", "slurm")
    if shutil.which("sbatch") is None:
        raise UserError("There is no command 'sbatch' here: run where jobs of SLURM can be submitted")
    import dask
    from distributed import Client

    exports = [f"export {name}={value}" for name, value in thread_variables(threads).items()]
    prologue = [*exports, *settings.pop("job_script_prologue", [])]
    with dask.config.set(_CONFIG):
        try:
            cluster = jobqueue.SLURMCluster(
                cores=1, processes=1, job_cpu=threads, memory=memory, job_script_prologue=prologue, **settings
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"'backend' of SLURM is refused ({error}): correct its settings") from error
        with cluster, Client(cluster) as client:
            cluster.scale(jobs=jobs)
            yield client.get_executor(pure=False)


def _imported(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"'backend' {extra!r} needs {module}: pip install 'duelenv[{extra}]'") from error
