"""Serving an application on one address until somebody says that it is enough."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from duelenv.ground.errors import UserError

#: Seconds that an answer under way may still take.
_GRACE_SECONDS = 5


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 for any that is free.

    Raises:
        UserError: Nobody may listen there, or somebody does.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen()  # whoever is told the address may come before the server runs, and waits
        except BaseException:
            opened.close()
            raise
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot open the page at {host} port {port} ({error}); give another --port or --host"
        ) from error
    return opened


def url_of(host: str, opened: socket.socket) -> str:
    """Write the address to be opened in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{opened.getsockname()[1]}/"


class Server(uvicorn.Server):
    """Serves until SIGINT, SIGTERM or `stop`; what a request has begun is finished, and then this returns."""

    def __init__(self, app: Any, opened: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._opened = opened

    def serve_here(self) -> None:
        """Serve in this thread."""
        self.run(sockets=[self._opened])

    def stop(self) -> None:
        """Make it return soon."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; unlike uvicorn's own, it is not raised again afterwards: there is still something to do."""
        before: dict[signal.Signals, Any] = {}
        with contextlib.suppress(ValueError):  # only the main thread is told
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._told)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        self.stop()


def serve(app: Any, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve an application until a signal.

    Args:
        app: An ASGI application.
        host: Where.
        port: Where; 0 for any that is free.
        ready: Is told the page's address.

    Raises:
        UserError: Nobody may listen there.
    """
    with bound(host, port) as opened:
        ready(url_of(host, opened))
        Server(app, opened).serve_here()
