"""What a request must pass before anybody reads it: the host, the token, the rate, the size, and in time."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from duelenv.experiments.serving.metrics import Metrics
from duelenv.ground import checks
from duelenv.ground.addresses import is_loopback
from duelenv.oracles.services.secrets import Secret

__all__ = ["Guard", "Limits"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where nothing is told that needs a token.
_OPEN: Final = ("/health",)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes on.

    Attributes:
        batch: Duels in one request, at most.
        body: Bytes of one request, at most.
        rate: Requests a second, at most, over all clients; as many may come at once.
        waiting: Requests that wait for the oracle at the same time, at most.
        seconds: That a request waits for the oracle; the answer is recorded all the same.
        upload: Seconds in which a request's body must have come.
    """

    batch: int = 1024
    body: int = 8 * 2**20
    rate: float = 2000.0
    waiting: int = 64
    seconds: float = 300.0
    upload: float = 30.0

    def __post_init__(self) -> None:
        for name in ("batch", "body", "waiting"):
            checks.integer(f"--{name}", getattr(self, name), low=1)
        for name in ("rate", "seconds", "upload"):
            checks.number(f"--{name}", getattr(self, name), above=0.0)


class Bucket:
    """Holds a second's worth of requests and fills evenly (token bucket)."""

    def __init__(self, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._size = max(rate, 1.0)
        self._left, self._at = self._size, now()

    def take(self) -> float:
        """Take one; 0, or the seconds after which there will be one."""
        now = self._now()
        self._left = min(self._left + (now - self._at) * self._rate, self._size)
        self._at = now
        if self._left < 1.0:
            return (1.0 - self._left) / self._rate
        self._left -= 1.0
        return 0.0


class _Refusal(NamedTuple):
    status: int
    sentence: str
    header: tuple[str, str] | None = None


class Guard:
    """An ASGI application around another.

    Args:
        app: Gets what passes.
        limits: Size, rate and time.
        token: That must come with every request but those for `/health`; None for none.
        local: Whether requests must name this machine as their host, so that no web page can send them under a name
            that leads here (DNS rebinding).
        metrics: Are told of every request.
    """

    def __init__(self, app: App, *, limits: Limits, token: Secret | None, local: bool, metrics: Metrics) -> None:
        self._app, self._limits, self._local, self._metrics = app, limits, local, metrics
        self._expected = None if token is None else f"Bearer {token.reveal()}".encode()
        self._bucket = Bucket(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._passed(scope, receive, told)
        finally:
            self._metrics.add("duelenv_requests_total", label=f'status="{status}"')
            self._metrics.add("duelenv_request_seconds_total", time.perf_counter() - begun)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope)
        most = self._limits.body if refused is None else 0
        try:
            body = await asyncio.wait_for(_body(receive, most, 2 * self._limits.body), self._limits.upload)
        except TimeoutError:
            await _say(send, refused or _Refusal(408, "the request did not come in time"))
            return
        if refused is None and body is None:
            refused = _Refusal(413, f"the request is longer than {self._limits.body:,} bytes")
        if refused is not None:
            await _say(send, refused)
            return
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    def _refusal(self, scope: Scope) -> _Refusal | None:
        """Find why a request goes no further, as far as its head tells."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if self._local and not _names_this_machine(headers):
            return _Refusal(421, "this server answers to this machine's own names only")
        if scope["path"] in _OPEN:
            return None
        if self._expected is not None and not self._knows(headers):
            return _Refusal(401, "a bearer token is missing or wrong", ("www-authenticate", "Bearer"))
        wait = self._bucket.take()
        return _Refusal(429, "too many requests", ("retry-after", str(math.ceil(wait)))) if wait else None

    def _knows(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        assert self._expected is not None
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def _names_this_machine(headers: list[tuple[bytes, bytes]]) -> bool:
    given = [value.decode("latin-1") for name, value in headers if name == b"host"]
    try:
        return len(given) == 1 and is_loopback(urlsplit(f"//{given[0]}").hostname or "")
    except ValueError:
        return False


async def _body(receive: Receive, most: int, spare: int) -> bytes | None:
    """Read the whole body, or None where it is longer than it may be.

    So many bytes more are then listened to and thrown away: a sender who is still sending does not read the answer.
    """
    pieces = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        piece = message.get("body", b"")
        length += len(piece)
        if length <= most:
            pieces.append(piece)
        if not message.get("more_body", False) or length > most + spare:
            break
    return b"".join(pieces) if length <= most else None


async def _say(send: Send, refusal: _Refusal) -> None:
    raw = json.dumps({"detail": refusal.sentence}).encode()
    listed = [("content-type", "application/json"), ("content-length", str(len(raw)))]
    listed += [] if refusal.header is None else [refusal.header]
    named = [(name.encode(), value.encode()) for name, value in listed]
    await send({"type": "http.response.start", "status": refusal.status, "headers": named})
    await send({"type": "http.response.body", "body": raw})
