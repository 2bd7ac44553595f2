"""Tasks in worker processes: how they end when they are told to, when their parent is gone, and when they fail.

A run ends gently where it can: a first signal lets every cell finish the round that it is in, so that no answer is on
its way when the process ends; a second one, or some seconds, end it at once. What a task raises travels as text: an
exception of a user's own class may not survive the way between processes.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from duelenv.experiments.folder.locks import Lease
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable, warn_printably
from duelenv.oracles import Unanswered
from duelenv.oracles.services.spending import OutOfMoney

__all__ = [
    "GRACE_SECONDS",
    "RETRIES",
    "Ending",
    "FuseBlown",
    "NoWorkers",
    "Outcome",
    "Stopped",
    "Task",
    "leave_in_time",
    "outcomes",
    "start_worker",
    "stop_requested",
]

#: Seconds that a question may still take when a run is told to end.
GRACE_SECONDS: Final = 10.0
#: How often a task is begun again whose worker died.
RETRIES: Final = 2
#: Characters of what a library says of a worker's death.
_MOST_WORDS: Final = 200
#: Seconds between two looks whether the run still goes on.
_LOOK_SECONDS: Final = 0.25

#: Seconds after a signal, or after its run has ended, in which this process is gone, whatever libraries still wait for.
_LEAVE_SECONDS: Final = 2 * GRACE_SECONDS


class _Flag:
    """Up or down. No `Event`: its lock would be waited for for ever by a signal that comes while it is held."""

    def __init__(self) -> None:
        self._up = False

    def set(self) -> None:
        self._up = True

    def clear(self) -> None:
        self._up = False

    def is_set(self) -> bool:
        return self._up


#: Set when the cells of this process shall stop after the round that they are in.
_stop = _Flag()
#: Set while a worker does a task.
_working = _Flag()


class Stopped(Exception):
    """A cell was told to stop, and has saved what it has."""


class FuseBlown(Exception):
    """A cell would have spent more labels than its run may."""


class NoWorkers(UserError):
    """A backend has no worker and will get none, as where a cluster takes no job; says why."""


def stop_requested() -> bool:
    """Tell whether this process was told to stop."""
    return _stop.is_set()


@dataclass(frozen=True)
class Task:
    """Something to be done, perhaps in another process.

    Attributes:
        name: Which cell it is about.
        function: A function of a module.
        arguments: Its arguments.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        name: The task's.
        kind: "done", "stopped" as it was told to, "blown" since the run's labels or its money are spent, "refused" by a
            sentence for the user, "unplaced" since there is no worker for it, "failed", "died" as often as it was
            begun, or "interrupted" by Ctrl-C.
        value: What it returned.
        message: What it raised, as text.
        trace: The traceback of a failure.
        common: Whether a refusal has a cause that tasks have in common.
    """

    name: str
    kind: Literal["done", "stopped", "blown", "refused", "unplaced", "failed", "died", "interrupted"]
    value: Any = None
    message: str = ""
    trace: str = ""
    common: bool = False


def _perform(task: Task, lease: Lease | None) -> Outcome:
    """Do a task, here or in a worker."""
    with _watched(lease):
        try:
            return Outcome(task.name, "done", task.function(*task.arguments))
        except FuseBlown:
            return Outcome(task.name, "blown")
        except Stopped:
            return Outcome(task.name, "stopped")
        except UserError as error:
            broke = _out_of_money(error)
            if broke is not None:
                return Outcome(task.name, "blown", message=str(broke))
            return Outcome(task.name, "refused", message=str(error), common=_is_common(error))
        except KeyboardInterrupt:
            return Outcome(task.name, "interrupted")
        except BaseException as error:  # whatever a user's code may raise
            message = " ".join(f"{type(error).__name__}: {_words_of(error)}".split())
            return Outcome(task.name, "failed", message=message, trace=printable(traceback.format_exc(), newlines=True))


def _out_of_money(error: BaseException | None) -> OutOfMoney | None:
    """Find the empty purse behind an error; an oracle that has answers to some duels says so in its own."""
    while error is not None and not isinstance(error, OutOfMoney):
        error = error.__cause__
    return error


def _is_common(error: BaseException | None) -> bool:
    """Tell whether what was refused would be refused to other tasks too: by a source that is down, or by the disk."""
    while error is not None:
        if isinstance(error, Unanswered | OSError):
            return True
        error = error.__cause__
    return False


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "no words: its __str__ fails"


@contextmanager
def _watched(lease: Lease | None) -> Iterator[None]:
    """Look, while a task runs in another process than the run's, whether the run still goes on."""
    if lease is None or lease.own:
        yield
        return
    _stop.clear()
    if lease.state() != "held":
        _stop.set()
    _working.set()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(lease, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if lease.state() == "gone":
            os._exit(1)  # nobody is there to be told anything
        _working.clear()


def _watch(lease: Lease, over: threading.Event) -> None:
    while not over.wait(_LOOK_SECONDS):
        state = lease.state()
        if state != "held":
            _stop.set()
        if state == "gone":
            if not over.wait(GRACE_SECONDS):
                os._exit(1)
            return


def start_worker(parent: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent, ends gently, and does not outlive its parent."""
    warn_printably()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _stop.set() if _working.is_set() else os._exit(143))

    def follow() -> None:
        pause = threading.Event()
        while os.getppid() == parent or _working.is_set():  # a task ends itself
            pause.wait(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=follow, daemon=True, name="follows its parent").start()


class Ending:
    """How a run is told to end; made by `Ending.watched`.

    Attributes:
        signal: The signal that asked for it, or None.
        asked: Whether cells were told to stop, by a signal or since something failed.
    """

    def __init__(self, tell: Callable[[], None], say: Callable[[str], None]) -> None:
        self.signal: int | None = None
        self._tell, self._say = tell, say
        self._gentle = False
        self.asked = False
        self._timer: threading.Timer | None = None
        self._leaving: threading.Timer | None = None

    @classmethod
    @contextmanager
    def watched(cls, tell: Callable[[], None], say: Callable[[str], None]) -> Iterator[Ending]:
        """Take signals, for as long as the block runs in a main thread.

        Args:
            tell: Tells workers to stop.
            say: Shows a line to the user.
        """
        ending = cls(tell, say)
        _stop.clear()
        main = threading.current_thread() is threading.main_thread()
        # What was ignored stays so, as under nohup.
        taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN] if main else []
        before = {number: signal.signal(number, ending._take) for number in taken}
        try:
            yield ending
        finally:
            for timer in (ending._timer, ending._leaving):
                if timer is not None:
                    timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
            _stop.clear()

    @contextmanager
    def gentle(self) -> Iterator[None]:
        """Let a first signal stop cells after their round; outside of this block it ends everything at once."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def ask(self) -> None:
        """Tell all cells to stop, and end everything some seconds later."""
        if self.asked:
            return
        self.asked = True
        _stop.set()
        self._tell()
        if threading.current_thread() is threading.main_thread():
            main = threading.get_ident()  # which may be waiting, and would not notice a signal to another thread
            self._timer = threading.Timer(GRACE_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
            self._timer.daemon = True
            self._timer.start()

    def _take(self, number: int, frame: object) -> None:
        first = self.signal is None and not self.asked
        self.signal = self.signal or number
        if not first or not self._gentle:
            raise KeyboardInterrupt
        self.ask()
        self._leaving = leave_in_time(128 + number)
        self._say("stopping after the questions that are being asked; once more to stop at once")


def leave_in_time(code: int) -> threading.Timer:
    """End this process some seconds from now, if it has not ended by itself; everything written is safe by then.

    A library that lost its workers to a signal may wait for them without end.
    """
    leaving = threading.Timer(_LEAVE_SECONDS, os._exit, (code,))
    leaving.daemon = True
    leaving.start()
    return leaving


#: Ctrl-C, what batch systems and service managers send, and the end of a terminal.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def _forget_signals() -> None:
    """Leave signals to the parent in a process that was forked while a run goes on, as some backends do."""
    for number in _SIGNALS:
        handler = signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL
        if getattr(signal.getsignal(number), "__func__", None) is Ending._take:
            with suppress(ValueError):  # not forked by a main thread
                signal.signal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_signals)


def outcomes(
    tasks: Iterable[Task],
    executor: Executor,
    *,
    jobs: int,
    lease: Lease | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Do tasks and yield how they ended, in the order in which they did.

    A task whose worker dies, or is told to end while the run goes on, is begun again, `RETRIES` times at most: a cell
    goes on from its checkpoint.

    Args:
        tasks: What to do.
        executor: Of a backend.
        jobs: Tasks at the same time.
        lease: By which workers see whether the run goes on.
        say: Is told of workers that died.

    Raises:
        KeyboardInterrupt: A task was interrupted.
    """
    waiting = deque((task, 0) for task in tasks)
    running: dict[Future[Outcome], tuple[Task, int]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            task, deaths = waiting.popleft()
            if stop_requested():
                yield Outcome(task.name, "stopped")
                continue
            future = executor.submit(_perform, task, lease)
            running[future] = (task, deaths)
            if future.done():  # where nothing runs beside this process
                break
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            task, deaths = running.pop(future)
            outcome = _outcome_of(future, task)
            if outcome.kind == "interrupted":
                raise KeyboardInterrupt
            lost = outcome.kind in ("died", "stopped")
            if lost and stop_requested():
                yield Outcome(task.name, "stopped")
            elif lost and deaths < RETRIES:
                say(f"the worker of {task.name!r} ended ({outcome.message}); it goes on in another")
                waiting.appendleft((task, deaths + 1))
            elif lost:
                yield replace(outcome, kind="died")
            else:
                yield outcome


def _outcome_of(future: Future[Outcome], task: Task) -> Outcome:
    """Say how a task ended, its worker's death included: by any exception, since tasks themselves raise none."""
    try:
        outcome = future.result()
    except NoWorkers as error:
        return Outcome(task.name, "unplaced", message=str(error))
    except (Exception, CancelledError) as error:
        words = " ".join(_words_of(error).split())
        return Outcome(task.name, "died", message=f"{type(error).__name__}: {words[:_MOST_WORDS]}")
    return replace(outcome, message="told to end") if outcome.kind == "stopped" else outcome
