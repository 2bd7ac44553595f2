"""Backends on this machine: worker processes, each replaced when it dies; threads; and no worker at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from duelenv.experiments.running.processes import start_worker

__all__ = [
    "Inline",
    "Slots",
    "end_kept_workers",
    "loky_backend",
    "multiprocessing_backend",
    "sequential_backend",
    "thread_variables",
    "threading_backend",
]

Value = TypeVar("Value")

#: What numeric libraries read when they are loaded.
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Seconds after which an idle worker process ends, as joblib has it.
_IDLE_SECONDS: Final = 300


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment in which numeric libraries use so many threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


class Inline(Executor):
    """Carries calls out at once, where they are submitted."""

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        future: Future[Value] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Slots(Executor):
    """As many executors of one worker each as calls are under way, so that a dying worker takes no other with it.

    A pool of several workers is broken as a whole when one of them dies, and does not tell which call that was.

    Args:
        make: Makes an executor of one worker.
        end: Ends one in the middle of a call.
    """

    def __init__(self, make: Callable[[], Executor], end: Callable[[Any], None]) -> None:
        self._make, self._end = make, end
        self._idle: list[Executor] = []
        self._busy: dict[Future[Any], Executor] = {}

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        while self._idle:
            worker = self._idle.pop()
            try:
                return self._watched(worker.submit(fn, *args, **kwargs), worker)
            except BrokenExecutor:  # it died while it had nothing to do
                continue
        with _interrupts_ignored():
            worker = self._make()
            future = worker.submit(fn, *args, **kwargs)
        return self._watched(future, worker)

    def _watched(self, future: Future[Value], worker: Executor) -> Future[Value]:
        self._busy[future] = worker
        future.add_done_callback(self._free)
        return future

    def _free(self, future: Future[Any]) -> None:
        worker = self._busy.pop(future, None)
        if worker is None:  # ended on purpose
            return
        if future.cancelled() or not isinstance(future.exception(), BrokenExecutor):
            self._idle.append(worker)

    def end_busy(self) -> None:
        """End the workers that are in the middle of a call."""
        busy, self._busy = self._busy, {}
        for worker in busy.values():
            self._end(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.end_busy()
        while self._idle:
            self._idle.pop().shutdown(wait=wait)


#: Kept from one run of this process to the next, by threads of a worker: to start one takes seconds.
_loky_slots: dict[int, Slots] = {}


def end_kept_workers() -> None:
    """End the worker processes that are kept for the next run, which know this process's environment as it was."""
    while _loky_slots:
        _loky_slots.popitem()[1].shutdown()


@contextmanager
def loky_backend(jobs: int, threads: int) -> Iterator[Executor]:
    """Give worker processes that start afresh, by joblib's loky; with one job, this process plays."""
    if jobs == 1:
        yield Inline()
        return
    from joblib.externals.loky import ProcessPoolExecutor as LokyExecutor

    def make() -> Executor:
        made: Executor = LokyExecutor(
            1,
            timeout=_IDLE_SECONDS,
            initializer=start_worker,
            initargs=(os.getpid(),),
            env=thread_variables(threads),
        )
        return made

    slots = _loky_slots.setdefault(threads, Slots(make, lambda worker: worker.shutdown(wait=False, kill_workers=True)))
    try:
        yield slots
    finally:
        slots.end_busy()


@contextmanager
def multiprocessing_backend(jobs: int, threads: int) -> Iterator[Executor]:
    """Give worker processes as the standard library starts them; threads are those of this process."""
    if jobs == 1:
        yield Inline()
        return

    def end(worker: ProcessPoolExecutor) -> None:
        for process in list((worker._processes or {}).values()):
            process.kill()

    slots = Slots(lambda: ProcessPoolExecutor(1, initializer=start_worker, initargs=(os.getpid(),)), end)
    try:
        yield slots
    finally:
        slots.shutdown(wait=False)


@contextmanager
def threading_backend(jobs: int, threads: int) -> Iterator[Executor]:
    """Give threads of this process; how many each has for its numbers is this process's affair."""
    if jobs == 1:
        yield Inline()
        return
    executor = ThreadPoolExecutor(jobs)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def sequential_backend(jobs: int, threads: int) -> Iterator[Executor]:
    """Play one after the other in this process."""
    yield Inline()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for the moment in which a worker process starts, which inherits this until it sets it itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
