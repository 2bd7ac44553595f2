"""An executor over workers that may never come: somebody looks after them, and says when there is no hope of any."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from duelenv.experiments.running.processes import NoWorkers

__all__ = ["Watched"]

Value = TypeVar("Value")


class Watched(Executor):
    """Passes calls on, and ends all that are under way, and those to come, once there is nobody to carry them out.

    What the executor behind still holds of them, whoever made it drops as it is closed.

    Args:
        executor: To whom calls are passed.
        look: Says in a sentence why there will be no worker, or None as long as there may be one.
        seconds: Between two looks.
    """

    def __init__(self, executor: Executor, look: Callable[[], str | None], seconds: float) -> None:
        self._executor, self._look, self._seconds = executor, look, seconds
        self._open: dict[Future[Any], Future[Any]] = {}
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="looks after workers").start()

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        given: Future[Value] = Future()
        inner: Future[Value] | None = None
        with self._lock:
            lost = self._lost
            if lost is None:
                try:
                    inner = self._executor.submit(fn, *args, **kwargs)
                    self._open[inner] = given
                except Exception as error:  # of whatever kind: it takes no calls any more
                    lost = " ".join(f"{type(error).__name__}: {error}".split())
        if inner is not None:
            inner.add_done_callback(self._hand_over)
        else:
            given.set_exception(NoWorkers(self._look() or lost))
        return given

    def _hand_over(self, inner: Future[Any]) -> None:
        with self._lock:
            given = self._open.pop(inner, None)
        if given is None:  # it was given up
            return
        if inner.cancelled():
            given.cancel()
            given.set_running_or_notify_cancel()
        elif (error := inner.exception()) is not None:
            given.set_exception(error)
        else:
            given.set_result(inner.result())

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            lost = self._look()
            if lost is not None:
                self._give_up(lost)
                return

    def _give_up(self, lost: str) -> None:
        with self._lock:
            self._lost, given_up, self._open = lost, self._open, {}
        for given in given_up.values():
            given.set_exception(NoWorkers(lost))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Look no more; the executor behind is shut down by whoever made it."""
        self._over.set()
