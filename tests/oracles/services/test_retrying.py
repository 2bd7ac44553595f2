"""What is tried again, how long is waited, and how many go at once."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from duelenv.oracles.services import retrying
from duelenv.oracles.services.retrying import Pace, Patience, Refused, Unreadable, persistently, side_by_side


def refusal(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://localhost")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers))


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def failing(*errors: Exception) -> Any:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "well"

    return call


@pytest.mark.parametrize(
    "error",
    [refusal(429), refusal(500), refusal(503), httpx.ReadTimeout(""), httpx.RemoteProtocolError(""), Unreadable()],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    clock = Clock()
    assert persistently(failing(error, error), Patience(), sleep=clock.sleep, now=clock) == "well"
    assert len(clock.slept) == 2


@pytest.mark.parametrize("error", [refusal(400), refusal(401), refusal(404), Refused("no"), KeyError("defect")])
def test_what_will_not_pass_is_not(error: Exception) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        persistently(failing(error), Patience(), sleep=clock.sleep, now=clock)
    assert clock.slept == []


def test_attempts_are_counted_and_the_last_error_is_told() -> None:
    clock = Clock()
    with pytest.raises(httpx.HTTPStatusError) as caught:
        persistently(failing(*[refusal(500)] * 2, refusal(503)), Patience(attempts=3), sleep=clock.sleep, now=clock)
    assert caught.value.response.status_code == 503
    assert len(clock.slept) == 2


def test_the_servers_own_pause_is_kept_to_the_second() -> None:
    clock = Clock()
    persistently(failing(refusal(429, **{"retry-after": "17"})), Patience(), sleep=clock.sleep, now=clock)
    assert clock.slept == [17.0]


def test_a_pause_beyond_all_patience_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(httpx.HTTPStatusError):
        persistently(
            failing(refusal(429, **{"retry-after": "3600"})), Patience(seconds=60.0), sleep=clock.sleep, now=clock
        )
    assert clock.slept == []


def test_retry_after_may_be_a_date() -> None:
    error = refusal(503, **{"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"})
    assert retrying.pause_asked_for(error, now=lambda: 100.0) == 20.0
    assert retrying.pause_asked_for(error, now=lambda: 500.0) == 0.0
    assert retrying.pause_asked_for(refusal(503, **{"retry-after": "soon"})) is None


def test_pauses_grow_twofold() -> None:
    clock = Clock()
    patience = Patience(attempts=6, pause=1.0, seconds=1000.0)
    persistently(failing(*[refusal(500)] * 5), patience, sleep=clock.sleep, now=clock)
    for number, pause in enumerate(clock.slept):
        assert 2.0**number <= pause <= 2.0**number + 1.0


def test_a_pace_is_kept_by_all_threads_together() -> None:
    clock = Clock()
    pace = Pace(4.0, sleep=clock.sleep, now=clock)
    for _ in range(9):
        pace()
    assert clock.now == pytest.approx(2.0)  # eight gaps of a quarter of a second


def test_side_by_side_says_of_each_item_what_came_of_it() -> None:
    barrier = threading.Barrier(3, timeout=5.0)

    def work(item: int) -> int:
        barrier.wait()  # only three at once get past it
        if item == 1:
            raise ValueError("one")
        return item * 10

    found = dict(side_by_side(work, range(6), width=3))
    assert {place: value for place, value in found.items() if place != 1} == {0: 0, 2: 20, 3: 30, 4: 40, 5: 50}
    assert isinstance(found[1], ValueError)


def test_no_more_than_the_width_are_open() -> None:
    open_now, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.002)
        with lock:
            open_now -= 1

    list(side_by_side(work, range(20), width=4))
    assert most <= 4
