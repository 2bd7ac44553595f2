"""Who may write: one process a run folder, one process a cell; and how workers learn that their run has ended.

Locks are the system's own (`flock`): a process that dies lets go of them, however it dies. Where the file system has
none, or only pretends, nothing is run.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from duelenv.ground.errors import UserError
from duelenv.ground.files import refusals_said

if sys.platform != "win32":
    import fcntl

__all__ = ["Lease", "RunLock", "hold_cell", "hold_run", "seems_held"]

#: Seconds between two tries to get a lock.
_RETRY_SECONDS: Final = 0.1
#: A worker looks now and then whether its run's lock is free, and holds it for that moment.
_RUN_SECONDS: Final = 2.0
#: Workers whose run has ended finish what they are asking, for `processes.GRACE_SECONDS` at most.
_CELL_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Lease:
    """What a worker knows of the run that it works for.

    Attributes:
        path: The run's lock.
        token: Names this start of the run.
        pid: The process that holds the lock.
        host: Its machine.
    """

    path: Path
    token: str
    pid: int
    host: str

    @property
    def own(self) -> bool:
        """Whether this very process holds it."""
        return self.pid == os.getpid() and self.host == socket.gethostname()

    def state(self) -> Literal["held", "stopping", "gone"]:
        """Tell whether the run goes on, wants its cells to stop, or has ended without a word."""
        found = _read(self.path)
        if found.get("token", self.token) != self.token:
            return "gone"  # and started again
        if self.host == socket.gethostname() and not _alive(self.pid):
            return "gone"
        if found and _is_free(self.path):
            return "gone"
        return "stopping" if found.get("stop") else "held"


class RunLock:
    """The lock of a run folder, held.

    Attributes:
        lease: For workers.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._stream = stream
        self.lease = Lease(path, uuid.uuid4().hex, os.getpid(), socket.gethostname())
        self._say(stop=False)

    def ask_to_stop(self) -> None:
        """Ask all cells, wherever they are played, to stop after the round that they are in."""
        self._say(stop=True)

    def _say(self, *, stop: bool) -> None:
        _write(self._stream, {"token": self.lease.token, "stop": stop})


@contextmanager
def hold_run(path: Path) -> Iterator[RunLock]:
    """Hold the lock of a run folder, which exists.

    Raises:
        UserError: Another process holds it, or the file system has no locks.
    """
    refusal = f"Another process is running in {str(path.parent)!r}{{who}}: wait for it or stop it"
    with _held(path, _RUN_SECONDS, refusal) as stream:
        yield RunLock(path, stream)


@contextmanager
def hold_cell(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a cell's folder; made if absent.

    Args:
        path: The lock.
        stop: Whether to give up waiting.

    Raises:
        UserError: A process of an earlier start holds it and does not end.
    """
    with refusals_said(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"The cell {path.parent.name!r} is still played by a process of an earlier start{{who}}: wait for it or end it"
    )
    with _held(path, _CELL_SECONDS, refusal, stop) as stream:
        _write(stream, {})
        try:
            yield
        finally:
            with suppress(OSError):  # so that `seems_held` sees that this process, which goes on, has let go
                stream.truncate(0)


def seems_held(path: Path) -> bool | None:
    """Tell, without touching the lock, whether the process lives that says it holds it; None if on another machine.

    For people who watch. Nothing may be decided by it: another process may have taken the number of one that died.
    """
    found = _read(path)
    if not isinstance(found.get("pid"), int) or found["pid"] <= 0:
        return False
    return _alive(found["pid"]) if found.get("host") == socket.gethostname() else None


@contextmanager
def _held(path: Path, seconds: float, refusal: str, stop: Callable[[], bool] = lambda: False) -> Iterator[IO[bytes]]:
    with refusals_said(path):
        opened = path.open("a+b", buffering=0)
    with opened as stream:
        if sys.platform != "win32":
            until = time.monotonic() + seconds
            while not _take(stream, path):
                if time.monotonic() > until or stop():
                    holder = _read(path)
                    who = f" (process {holder['pid']} on {holder['host']})" if {"pid", "host"} <= holder.keys() else ""
                    raise UserError(refusal.format(who=who))
                time.sleep(_RETRY_SECONDS)
            if _is_free(path):
                raise _no_locks(path, "takes locks and does not keep them")
        yield stream


def _take(stream: IO[bytes], path: Path) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _no_locks(path, f"has no locks ({error.strerror})") from error
    return True


def _is_free(path: Path) -> bool:
    """Tell whether nobody holds a lock."""
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _no_locks(path: Path, why: str) -> UserError:
    return UserError(
        f"The file system of {str(path.parent)!r} {why}, so that two processes could write the same labels: choose a "
        "run directory on another disk with --output"
    )


def _write(stream: IO[bytes], content: dict[str, Any]) -> None:
    # In place: the file that others look at is the one that is locked.
    with refusals_said(Path(stream.name)):
        stream.truncate(0)
        stream.write(json.dumps({**content, "pid": os.getpid(), "host": socket.gethostname()}).encode())


def _read(path: Path) -> dict[str, Any]:
    """Read what a lock's holder says of itself; nothing where the file is missing, or just being written."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
