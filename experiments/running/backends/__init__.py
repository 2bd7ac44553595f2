"""Where the cells of a run are played: a backend is a name in a config and an executor behind it.

A backend is a function of `jobs`, `threads` and settings of its own that returns a context manager over a
`concurrent.futures.Executor`. That is what Dask, MPI, ipyparallel and the standard library agree on, so that one of a
user's own is a few lines:

    @register_backend("mpi")
    @contextmanager
    def mpi(jobs: int, threads: int):
        with MPIPoolExecutor(jobs) as executor:
            yield executor

Backends that are registered with joblib are found by their names too. A submitted call never raises: what it returns
says how it ended. So whatever a future raises means that its worker is gone, and the call is submitted again; an
executor has to replace the worker by then. But for `NoWorkers` (`watched`): there will be none, and the call is listed
as failed, as are those that follow. At most `jobs` calls are submitted at a time. When the block ends, by an exception
too, calls that still run should be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Any, Final

from duelenv.experiments.config.modules import load_modules
from duelenv.ground.checks import unknown_name
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = ["BACKENDS", "Backend", "check_backend", "open_backend", "register_backend"]

Backend = Callable[..., AbstractContextManager[Executor]]

_HERE: Final = "duelenv.experiments.running.backends"

BACKENDS: Final[Registry[Backend]] = Registry(
    "backend",
    {
        "dask": f"{_HERE}.dask_cluster:dask_backend",
        "loky": f"{_HERE}.local:loky_backend",
        "multiprocessing": f"{_HERE}.local:multiprocessing_backend",
        "ray": f"{_HERE}.ray_cluster:ray_backend",
        "sequential": f"{_HERE}.local:sequential_backend",
        "slurm": f"{_HERE}.slurm:slurm_backend",
        "threading": f"{_HERE}.local:threading_backend",
    },
)

register_backend = BACKENDS.register


def open_backend(
    name: str, settings: Mapping[str, Any], *, jobs: int, threads: int, modules: Sequence[str] = ()
) -> AbstractContextManager[Executor]:
    """Return an executor, to be used in a `with` block.

    Args:
        name: Of a backend here, or of one that is registered with joblib.
        settings: Its own.
        jobs: Calls that it has to carry out at the same time.
        threads: Of numeric libraries in each of its workers.
        modules: A config's, loaded only where nobody knows the name yet.

    Raises:
        UserError: An unknown name or setting.
    """
    for key in ("jobs", "threads"):
        if key in settings:
            raise UserError(f"'backend.{key}' is set in the wrong place: use {key!r} at the top level")
    check_backend(name, modules)
    if name not in BACKENDS:
        from duelenv.experiments.running.backends.of_joblib import joblib_backend

        return joblib_backend(name, settings, jobs=jobs)
    opened: AbstractContextManager[Executor] = BACKENDS.make(name, {**settings, "jobs": jobs, "threads": threads})
    return opened


def check_backend(name: str, modules: Sequence[str] = ()) -> None:
    """Refuse a name that is neither a backend's here nor one's that is registered with joblib.

    Args:
        name: As in `open_backend`.
        modules: As there.

    Raises:
        UserError: An unknown name.
    """
    if name not in BACKENDS:
        load_modules(modules)
    if name not in BACKENDS:
        from duelenv.experiments.running.backends.of_joblib import knows

        if not knows(name):
            raise unknown_name(BACKENDS.kind, name, BACKENDS.known(), extensible=True)
