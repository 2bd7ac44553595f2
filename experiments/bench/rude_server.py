"""A server on loopback that behaves as a script says: well, slowly, rudely.

A script is a list of behaviours, one for each request that comes; after its end every request is answered well. What
"well" means is a function of the request, given by the test. Every request is kept with its body.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered.

    Attributes:
        status: HTTP status.
        body: Bytes or JSON in place of a good answer; None for the good one.
        change: Applied to the good answer, which it may change in place.
        headers: Besides the usual ones.
        hang_up: Close the connection without a word.
        truncate: Promise the whole body and send so many bytes of it.
        drip: Seconds between two bytes of the body.
        silent: Wait for this event before anything is sent.
    """

    status: int = 200
    body: Any = None
    change: Callable[[Any], Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    truncate: int | None = None
    drip: float = 0.0
    silent: threading.Event | None = None


GOOD = Behaviour()


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class RudeServer:
    """The server, and what it has seen.

    Attributes:
        url: Its address, without a slash at the end.
        seen: All requests, in the order in which they came.
        script: Behaviours of the next requests; may be extended at any time.
        most_at_once: The most requests that were open at the same time.
    """

    def __init__(self, answer: Callable[[Seen], Any], script: Sequence[Behaviour] = ()) -> None:
        self.answer, self.script = answer, list(script)
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._handle(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        seen = Seen(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}, _json(raw))
        with self._lock:
            self.seen.append(seen)
            behaviour = self.script.pop(0) if self.script else GOOD
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            self._behave(handler, seen, behaviour)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has gone
        finally:
            with self._lock:
                self._open -= 1

    def _behave(self, handler: BaseHTTPRequestHandler, seen: Seen, behaviour: Behaviour) -> None:
        if behaviour.silent is not None:
            behaviour.silent.wait(30.0)
        if behaviour.hang_up:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.answer(seen) if behaviour.body is None and behaviour.status < 400 else behaviour.body
        if isinstance(body, Behaviour):  # decided by what was asked, not by when it came
            behaviour, body = body, body.body
        if behaviour.change is not None:
            body = behaviour.change(body)
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        handler.send_response(behaviour.status)
        for name, value in {"content-type": "application/json", **behaviour.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        if behaviour.truncate is not None:
            handler.wfile.write(raw[: behaviour.truncate])
            handler.close_connection = True
            return
        if behaviour.drip:
            for byte in raw:
                handler.wfile.write(bytes([byte]))
                time.sleep(behaviour.drip)
            return
        handler.wfile.write(raw)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw


@contextmanager
def rude_server(answer: Callable[[Seen], Any], script: Sequence[Behaviour] = ()) -> Iterator[RudeServer]:
    """Run a server on loopback for the length of a block."""
    server = RudeServer(answer, script)
    thread = threading.Thread(target=server._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._http.shutdown()
        server._http.server_close()
        thread.join()
