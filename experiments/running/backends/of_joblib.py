"""Backends that somebody registered with joblib (`joblib.register_parallel_backend`), as executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["joblib_backend", "knows"]

Value = TypeVar("Value")


def knows(name: str) -> bool:
    """Tell whether joblib knows a backend of this name."""
    from joblib.parallel import BACKENDS

    return name in BACKENDS


class _Calls(Executor):
    """Each call is a `Parallel` of its own, which a thread waits for: joblib tells of calls only all together."""

    def __init__(self, name: str, settings: Mapping[str, Any], jobs: int) -> None:
        self._name, self._settings, self._jobs = name, dict(settings), jobs
        self._threads = ThreadPoolExecutor(jobs)

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, fn: Callable[..., Value], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        import joblib

        # Where one job is asked for, joblib plays in this very process.
        with joblib.parallel_config(self._name, n_jobs=max(2, self._jobs), **self._settings):
            value: Value = joblib.Parallel()([joblib.delayed(fn)(*args, **kwargs)])[0]
        return value

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)


@contextmanager
def joblib_backend(name: str, settings: Mapping[str, Any], *, jobs: int) -> Iterator[Executor]:
    """Give an executor over a backend that joblib knows; settings are its class's."""
    executor = _Calls(name, settings, jobs)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
