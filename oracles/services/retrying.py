"""What may be tried again, how long to wait before, how many at once and how fast; not what is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

from duelenv.ground import checks
from duelenv.ground.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Too early, too many, and whatever a server says of itself; anything else is said of the request.
AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})


class Unreadable(Exception):
    """An answer that is none: cut short, no JSON, too long, to another question. It may be asked for again."""


class Refused(UserError):
    """An answer that will be the same next time: a wrong token, an unknown model, a request that is too long."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How persistently an address is asked.

    Attributes:
        attempts: How often one question is put, at least 1.
        seconds: Longest time that one question may take with all its pauses; a server that asks for a longer pause is
            believed, and the question given up.
        pause: Seconds before the second attempt; doubled before each further one, with jitter.
        timeout: Seconds that one attempt may take.
        width: Questions that are open at the same time.
        rate: Questions a second at most; None for as many as there are.
    """

    attempts: int = 5
    seconds: float = 300.0
    pause: float = 0.5
    timeout: float = 60.0
    width: int = 16
    rate: float | None = None

    def __post_init__(self) -> None:
        checks.integer("attempts", self.attempts, low=1)
        checks.integer("width", self.width, low=1)
        for name in ("seconds", "pause", "timeout"):
            checks.number(name, getattr(self, name), above=0.0)
        if self.rate is not None:
            checks.number("rate", self.rate, above=0.0)


def may_be_tried_again(error: BaseException) -> bool:
    """Tell whether the same request may fare better next time: by an HTTP status, or where the connection failed."""
    if isinstance(error, Refused):
        return False
    if isinstance(error, Unreadable | ConnectionError | TimeoutError):
        return True
    status = status_of(error)
    if status is not None:
        return status in AGAIN
    import httpx

    # The `openai` client wraps the connection's own errors.
    return any(isinstance(one, httpx.TransportError) for one in (error, error.__cause__))


def status_of(error: BaseException) -> int | None:
    """Find the HTTP status with which a request was refused, whichever client says so; None where none came."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def pause_asked_for(error: BaseException, now: Callable[[], float] = time.time) -> float | None:
    """Read the seconds that a server asks to wait (Retry-After, RFC 9110 10.2.3: seconds or a date); None without."""
    response = getattr(error, "response", None)
    value = None if response is None else response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now(), 0.0)


def persistently(
    call: Callable[[], Result],
    patience: Patience,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """Call until it succeeds, may not be tried again, or patience ends.

    Raises:
        BaseException: What the last call raised.
    """
    import tenacity

    begun = now()
    jittered = tenacity.wait_exponential_jitter(multiplier=patience.pause, max=60.0, jitter=patience.pause)

    def wait(state: tenacity.RetryCallState) -> float:
        error = _error_of(state)
        asked = None if error is None else pause_asked_for(error)
        return jittered(state) if asked is None else asked

    def enough(state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= patience.attempts or now() - begun + wait_of(state) > patience.seconds

    def wait_of(state: tenacity.RetryCallState) -> float:
        return float(state.upcoming_sleep)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_be_tried_again), wait=wait, stop=enough, sleep=sleep, reraise=True
    )
    return retrying(call)


def _error_of(state: Any) -> BaseException | None:
    outcome = state.outcome
    return None if outcome is None else outcome.exception()


class Pace:
    """Lets no more than so many through a second, evenly, whichever thread they come from."""

    def __init__(
        self,
        rate: float | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gap = 0.0 if rate is None else 1.0 / rate
        self._sleep, self._now = sleep, now
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Wait for one's turn."""
        if not self._gap:
            return
        with self._lock:
            turn = max(self._next, self._now())
            self._next = turn + self._gap
        self._sleep(max(turn - self._now(), 0.0))


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], width: int
) -> Iterator[tuple[int, Result | Exception]]:
    """Call a function on items, several at once; yield (place, result or exception) as they come.

    An exception of one item stops no other. What is no `Exception` (Ctrl-C) cancels what has not begun.
    """
    from concurrent.futures import as_completed

    if not items:
        return
    pool = ThreadPoolExecutor(min(width, len(items)), thread_name_prefix="oracle")
    try:
        futures = {pool.submit(function, item): place for place, item in enumerate(items)}
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield futures[future], future.result()
            elif isinstance(error, Exception):
                yield futures[future], error
            else:
                raise error
    finally:
        pool.shutdown(cancel_futures=True)
