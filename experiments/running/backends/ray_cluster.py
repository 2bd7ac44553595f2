"""Ray: a cluster on this machine, or one that runs already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from duelenv.experiments.running.backends.local import thread_variables
from duelenv.ground.errors import UserError

__all__ = ["ray_backend"]

Value = TypeVar("Value")


class _Tasks(Executor):
    """Calls as tasks of Ray, which starts another worker where one dies; the call is not repeated by Ray itself."""

    def __init__(self, ray: Any) -> None:
        self._call = ray.remote(num_cpus=1, max_retries=0)(_call)

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        future: Future[Value] = self._call.remote(fn, args, kwargs).future()
        return future


def _call(fn: Callable[..., Value], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
    return fn(*args, **kwargs)


@contextmanager
def ray_backend(jobs: int, threads: int, address: str | None = None) -> Iterator[Executor]:
    """Give workers of Ray.

    Args:
        jobs: Workers of a cluster on this machine; of another one, cells at the same time.
        threads: Of numeric libraries in each worker that is started here.
        address: Of a cluster that runs already and sees the run folder under the same path, "auto" for the one of this
            machine; if absent, one is started here, on loopback and without reports of usage, and ended with the run.

    Raises:
        UserError: Ray is missing, or nothing answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("'backend' 'ray' needs ray: pip install 'duelenv[ray]'") from error
    if ray.is_initialized():  # by whoever calls this, and to be ended there
        yield _Tasks(ray)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"No cluster of Ray answers at {address!r} ({error}): correct 'backend.address'") from error
    else:
        apart = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        with _environment({**thread_variables(threads), **apart}):
            ray.init(num_cpus=jobs, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield _Tasks(ray)
    finally:
        ray.shutdown()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that start in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
