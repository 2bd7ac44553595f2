"""What becomes of answers when a server behaves badly: every fault against every client, `bench oracles --faults`.

A server on loopback answers eight duels, and misbehaves in the middle. Where the client gives up, the duels that have
no answer are put to it once more, as the same command does in a run. Then:

- *lost*: an answer that was sent whole and well, and that the client does not have;
- *doubled*: a duel that was asked again after such an answer;
- *invented*: an answer that the client has and the server never gave.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from duelenv.experiments.bench.rude_server import GOOD, Behaviour, RudeServer, rude_server
from duelenv.experiments.bench.service_clients import ATTEMPTS, CLIENTS, TOKEN, Client, Fault
from duelenv.ground.terminal import printable
from duelenv.oracles.base import Unanswered, ask

__all__ = ["CLIENTS", "FAULTS", "Client", "Fault", "FaultLine", "service_fault_table", "try_faults"]

_PROMPTS: Final = [f"prompt {row}" for row in range(8)]
_FIRST: Final = [f"first {row}" for row in range(8)]
_SECOND: Final = [f"second {row}" for row in range(8)]
#: Faults that are tried at the same time.
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class FaultLine:
    """What became of one fault.

    Attributes:
        fault: Its name.
        client: The client's.
        duels: How many there were.
        answered: How many had the right answer in the end.
        lost: See the module.
        doubled: See the module.
        invented: See the module.
        requests: How many came.
        goes: How often the duels were put to the client: 1, or 2 where it gave up.
        said: What it said when it gave up.
    """

    fault: str
    client: str
    duels: int
    answered: int
    lost: int
    doubled: int
    invented: int
    requests: int
    goes: int
    said: str

    @property
    def survived(self) -> bool:
        """Whether all went as it must."""
        return self.answered == self.duels and not (self.lost or self.doubled or self.invented)


def _everywhere(behaviour: Behaviour) -> tuple[Behaviour, ...]:
    return (behaviour,) * ATTEMPTS


FAULTS: Final = (
    Fault("none", ()),
    Fault("429 without Retry-After", (Behaviour(status=429),)),
    Fault("429 with Retry-After", (Behaviour(status=429, headers={"retry-after": "0.05"}),)),
    Fault("429 with an hour's Retry-After", (Behaviour(status=429, headers={"retry-after": "3600"}),)),
    Fault("500", (Behaviour(status=500),)),
    Fault("500 without end", _everywhere(Behaviour(status=500))),
    Fault("503 with a page", (Behaviour(status=503, body=b"<html>\x1b[31m busy </html>"),)),
    Fault("400", (Behaviour(status=400, body={"detail": "no"}),)),
    Fault("a redirect", (Behaviour(status=302, body=b"", headers={"location": "http://127.0.0.1:9/"}),)),
    Fault("hang-up in the middle", (Behaviour(hang_up=True),)),
    Fault("hang-up without end", _everywhere(Behaviour(hang_up=True))),
    Fault("JSON cut short", (Behaviour(truncate=30),)),
    Fault("no JSON", (Behaviour(body=b"<html>"),)),
    Fault("JSON of another kind", (Behaviour(body=[{"win": 1.0}]),)),
    Fault("10 MB", (Behaviour(change=lambda body: json.dumps(body).encode() + b" " * 10_000_000),)),
    Fault("silence", (Behaviour(silent=threading.Event()),), timeout=1.0),
    Fault("a drip", (Behaviour(drip=0.02),), timeout=1.0),
    Fault("a token that has expired", (Behaviour(status=401),)),
)
"""What may happen to any client."""


def try_faults(clients: Sequence[Callable[[], Client]] = CLIENTS) -> Iterator[FaultLine]:
    """Try every fault against every client, over real connections on loopback.

    Several at a time, each with a server of its own: most of a fault is waiting.
    """
    made = [make() for make in clients]
    pairs = [(client, fault) for client in made for fault in (*FAULTS, *client.faults)]
    with _token(), ThreadPoolExecutor(_AT_ONCE) as executor:
        yield from executor.map(_tried, *zip(*pairs, strict=True))


def _tried(client: Client, fault: Fault) -> FaultLine:
    sent: Counter[str] = Counter()
    # A silence ends with its fault, so that its thread does not outlive it.
    silence = threading.Event()
    script = [replace(one, silent=silence) if one.silent is not None else one for one in fault.script]
    with rude_server(client.answer, [GOOD, *script]) as server:
        oracle = client.connect(server.url, fault.patience)
        win = np.full(len(_FIRST), np.nan)
        said = ""
        goes = 0
        left = list(range(len(_FIRST)))
        while left and goes < 2:
            goes += 1
            texts = [[column[row] for row in left] for column in (_PROMPTS, _FIRST, _SECOND)]
            try:
                win[left] = ask(oracle, *texts).win
                left = []
            except Unanswered as error:
                said = str(error).replace(server.url, "the server")
                told = [row for row, known in zip(left, error.answered, strict=True) if known]
                win[told] = error.preferences.win[error.answered]
                left = [row for row in left if row not in told]
                server.script.clear()
                silence.set()
        silence.set()
        sent = _well_answered(client, server, [GOOD, *script])
    right = np.array([client.win(first) for first in _FIRST])
    known = ~np.isnan(win)
    same = np.isclose(win, right, rtol=0.0, atol=1e-12)  # logarithms and back round
    return FaultLine(
        fault=fault.name,
        client=client.name,
        duels=len(_FIRST),
        answered=int(same.sum()),
        lost=sum(sent[first] > 0 and not known[row] for row, first in enumerate(_FIRST)),
        doubled=sum(max(count - 1, 0) for count in sent.values()),
        invented=int((known & ~same).sum()),
        requests=len(server.seen),
        goes=goes,
        said=said,
    )


def _well_answered(client: Client, server: RudeServer, script: Sequence[Behaviour]) -> Counter[str]:
    """Count how often a whole and good answer to each duel was sent; those that a script spoils are none."""
    behaviours = [*script, *[GOOD] * len(server.seen)]
    return Counter(
        first
        for seen, behaviour in zip(server.seen, behaviours, strict=False)
        if behaviour == GOOD
        for first in client.asked(seen)
    )


@contextmanager
def _token() -> Iterator[None]:
    """Set a token in the environment, as clients of servers need one."""
    before = os.environ.get(TOKEN)
    os.environ[TOKEN] = "token-of-a-bench"
    try:
        yield
    finally:
        if before is None:
            del os.environ[TOKEN]
        else:
            os.environ[TOKEN] = before


def service_fault_table(lines: Sequence[FaultLine]) -> str:
    """Write the table of what was tried, for a terminal."""
    titles = ("answered", "lost", "doubled", "invented", "requests", "goes")
    wide = max(len(line.fault) for line in lines) + 2
    narrow = max(len(line.client) for line in lines) + 2
    rows = [f"{'fault':<{wide}}{'client':<{narrow}}" + "".join(title.rjust(10) for title in titles) + "  said"]
    for line in lines:
        counts = (f"{line.answered}/{line.duels}", *(str(getattr(line, title)) for title in titles[1:]))
        said = printable(line.said if len(line.said) <= 100 else f"{line.said[:97]}...")
        rows.append(
            f"{line.fault:<{wide}}{line.client:<{narrow}}" + "".join(count.rjust(10) for count in counts) + f"  {said}"
        )
    survived = sum(line.survived for line in lines)
    note = (
        "answered: duels with the server's own answer in the end; lost, doubled, invented: answers; goes: 2 where the "
        "client gave up with a sentence, kept what it had, and was asked for the others again"
    )
    return "\n".join([*rows, "", f"{survived} of {len(lines)} faults survived. {note}."])
