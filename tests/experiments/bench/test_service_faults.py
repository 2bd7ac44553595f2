"""Every fault is survived by every client, and the table sees a client that loses, doubles or invents."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from duelenv.experiments.bench.rude_server import Behaviour
from duelenv.experiments.bench.service_clients import CLIENTS, Fault
from duelenv.experiments.bench.service_faults import (
    FAULTS,
    _token,
    _tried,
    service_fault_table,
    try_faults,
)
from duelenv.oracles import Preferences, Unanswered


@pytest.mark.slow
def test_every_fault_is_survived_by_every_client() -> None:
    lines = list(try_faults())
    table = service_fault_table(lines)
    assert all(line.survived for line in lines), table
    assert len(lines) >= len(FAULTS) * len(CLIENTS) and len({line.fault for line in lines}) >= 25
    assert f"{len(lines)} of {len(lines)} faults survived" in table and "\x1b" not in table


def test_a_machine_that_stalls_for_a_moment_makes_no_answer_doubled() -> None:
    """Only faults that are a wait end an attempt soon; by any other an answer 1.5 s late is not asked for twice."""
    client = CLIENTS[0]()
    late = Behaviour(change=lambda body: time.sleep(1.5) or body)
    with _token():
        line = _tried(client, Fault("late", (late,)))
    assert line.survived and (line.requests, line.goes) == (4, 1)
    assert {fault.name for fault in FAULTS if fault.timeout < 20.0} == {"silence", "a drip"}


def losing(oracle):
    """Forgets what was answered before a fault."""

    def ask(*texts):
        try:
            return oracle(*texts)
        except Unanswered as error:
            nothing = np.zeros(len(texts[0]), np.bool_)
            raise Unanswered("lost", error.preferences, nothing) from error

    return ask


def inventing(oracle):
    """Says one half where there is no answer."""

    def ask(*texts):
        try:
            return oracle(*texts)
        except Unanswered as error:
            win = np.where(error.answered, error.preferences.win, 0.5)
            return Preferences(win, np.zeros(len(win)))

    return ask


@pytest.mark.parametrize(
    ("spoil", "numbers"),
    [
        # Two duels of the first request are asked again by the second go.
        (losing, {"answered": 8, "lost": 0, "doubled": 2, "invented": 0, "goes": 2}),
        (inventing, {"answered": 2, "lost": 0, "doubled": 0, "invented": 6, "goes": 1}),
    ],
)
def test_a_client_that_does_what_it_must_not_is_seen(spoil, numbers) -> None:
    client = CLIENTS[0]()
    with _token():
        line = _tried(
            replace(client, connect=lambda *where: spoil(client.connect(*where))),
            Fault("400", (Behaviour(status=400),)),
        )
    assert {name: getattr(line, name) for name in numbers} == numbers and not line.survived


def test_an_answer_that_never_reaches_anybody_is_lost() -> None:
    client = CLIENTS[0]()

    def deaf(*where):
        oracle = client.connect(*where)

        def ask(*texts):
            answer = oracle(*texts)
            raise Unanswered("deaf", answer, np.arange(len(texts[0])) > 0)

        return ask

    with _token():
        line = _tried(replace(client, connect=deaf), FAULTS[0])
    assert (line.answered, line.lost, line.doubled, line.goes) == (7, 1, 1, 2)
