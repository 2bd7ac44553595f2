"""Processes of runs that are to be killed: a server that forks itself for each start, and what is left of a session.

Only for `duelenv bench faults` and the tests. Looks into /proc, which Linux has.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["ForkServer", "Started", "catches_sigterm", "kill", "members", "workers"]

#: Seconds between two looks.
POLL = 0.004


def members(session: int) -> list[int]:
    """List living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):
            state, _, _, own = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(own) == session and state not in "ZX":
                found.append(int(name))
    return found


def workers(session: int) -> list[int]:
    """List living worker processes of a session."""
    found = []
    for pid in members(session):
        with suppress(OSError):
            words = Path("/proc", str(pid), "cmdline").read_bytes()
            if pid != session and b"loky" in words and b"popen" in words:
                found.append(pid)
    return found


def catches_sigterm(pid: int) -> bool:
    """Tell whether a process has come as far as to install a handler of its own."""
    with suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def kill(pid: int, number: int, *, group: bool = False) -> None:
    """Send a signal to a process, or to its group, if it still lives."""
    with suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


class ForkServer:
    """A process that has imported everything and has no other thread, and forks itself for each start."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from duelenv.experiments.faults import processes; processes.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def serve() -> None:
    """Loop as the fork server does: one request a line, until its input ends."""
    import gc
    import importlib

    for name in (
        *(
            "duelenv.experiments.commands.cli",
            "duelenv.experiments.running.runner",
            "duelenv.experiments.report.page",
            "joblib",
            "jinja2",
        ),
        *("duelenv.experiments.tables.regret", "duelenv.worlds.pool_duel", "duelenv.text_features", "pyarrow.parquet"),
        *("pyarrow.compute", "duelenv.agents", "matplotlib.figure", "scipy.stats", "yaml", "sqlite3"),
    ):
        importlib.import_module(name)
    gc.freeze()
    children: set[int] = set()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        answer: Any = None
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _child(request["start"])
            children.add(pid)
            answer = pid
        elif "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
            children.discard(pid)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _child(start: dict[str, Any]) -> None:
    """Run one start in a fork of the server; does not return."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, path in ((0, os.devnull), (1, start["out"]), (2, start["err"])):
            stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(stream, target)
            os.close(stream)
        os.environ.update(start["environment"])
        if start["fault"] is not None:
            from duelenv.experiments.faults.injection import install_fault

            install_fault(**start["fault"])
        code = _command(start["words"], draw=start["draw"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:  # before the command began, or after its end
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> None:
    """End a fork as an interpreter ends."""
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _command(words: Sequence[str], *, draw: bool) -> int:
    """Run the command itself, without its figures if `draw` is False: they take longer than the run."""
    from duelenv.experiments.commands import cli

    if not draw:
        from duelenv.experiments.figures import plots
        from duelenv.experiments.report import figure_view

        plots.save_figures = lambda *_, **__: []
        figure_view.drawn = lambda *_, **__: {}
    return cli.main(words)


def undrawn() -> None:
    """Run the command in an interpreter of its own, without figures."""
    sys.exit(_command(sys.argv[1:], draw=False))


class Started:
    """A run that was started, in a session of its own."""

    def __init__(self, pid: int, poll: Callable[[], int | None], err: Path) -> None:
        self.pid = pid
        self.err = err
        self.code: int | None = None
        self._poll = poll

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self._poll()
        return self.code

    def wait(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(POLL)
        return self.code

    def stderr(self) -> str:
        return self.err.read_text(encoding="utf-8", errors="replace") if self.err.exists() else ""

    def said(self) -> str | None:
        """Find the one sentence with which the command ended; None if it said more, or less, or showed a traceback."""
        text = self.stderr()
        said = [line for line in text.splitlines() if line.startswith("duelenv: ")]
        if "Traceback" in text or len(said) != 1 or not text.rstrip().endswith(said[0]):
            return None
        return said[0]

    def sentence(self) -> str | None:
        """Find what it said at the end of exit code 2, if it was one sentence as it should be."""
        return self.said() if self.code == 2 else None

    def last_words(self) -> str:
        lines = self.stderr().strip().splitlines()
        return f"exit code {self.code}" + (f", {lines[-1][:300]!r}" if lines else "")
