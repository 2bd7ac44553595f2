"""What lies between a run and its oracle costs time: wrappers, the ledger, a server; `duelenv bench oracles`."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from duelenv.experiments.bench.judge import judge_rate
from duelenv.experiments.bench.ledger import PROMPT, RESPONSE, ledger_round, made_up_text
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Oracle, ask
from duelenv.oracles.remote.wire import PATH, Duel, make_duel, question, reply
from duelenv.oracles.wrappers import WRAPPERS

__all__ = ["MEASUREMENTS", "Overhead", "Rate", "bench_oracles", "serve_rate", "wrapper_overheads"]

#: Duels in a batch, connections of clients, seconds of a measurement.
_DUELS: Final = 16
_CLIENTS: Final = 4
_SECONDS: Final = 5.0
#: Settings at which wrappers change something.
_STRENGTH: Final = {"temperature": 2.0, "position_bias": 0.5, "tie_band": 0.1, "noise": 0.1}


@dataclass(frozen=True)
class Overhead:
    """What a batch costs beyond the bare oracle.

    Attributes:
        name: Of what lies between.
        microseconds: Of a batch, median beyond that of the bare oracle; of the bare oracle itself, its own.
        tenth: The same for the 90th percentile.
    """

    name: str
    microseconds: float
    tenth: float


@dataclass(frozen=True)
class Rate:
    """How fast batches were answered.

    Attributes:
        name: By whom.
        per_second: Batches a second, over all connections.
        processor: Milliseconds of a processor that the server takes for a batch; other work on the machine changes
            the rate, and this hardly.
        median: Milliseconds from a question to its answer.
        slowest: The same for the 99th percentile.
    """

    name: str
    per_second: float
    processor: float
    median: float
    slowest: float


def wrapper_overheads(
    *, duels: int = _DUELS, repeats: int = 400, ledger_rounds: int = 100, folder: Path | None = None
) -> list[Overhead]:
    """Measure what each wrapper, all of them together, and the ledger add to a batch.

    The bare oracle says 0.75 to everything, so that what is measured is not its own work. The ledger's round is that of
    `duelenv bench ledger`: questions and answers on the disk before anybody acts on them.

    Args:
        duels: In a batch.
        repeats: Batches of each.
        ledger_rounds: Rounds through the ledger.
        folder: On the disk to be measured; the current one if absent.
    """

    def bare(prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Any:
        return np.full(len(prompts), 0.75)

    together: Oracle = bare
    oracles: dict[str, Oracle] = {"bare oracle": bare}
    for name, strength in _STRENGTH.items():
        oracles[name] = WRAPPERS[name](bare, strength)
        together = WRAPPERS[name](together, strength)
    oracles["all wrappers"] = together
    texts = [[made_up_text(length, row, side) for row in range(duels)] for side, length in _SIDES]
    times: dict[str, list[float]] = {name: [] for name in oracles}
    for _ in range(repeats):  # in turn, so that all meet the same machine
        for name, oracle in oracles.items():
            begun = time.perf_counter()
            ask(oracle, *texts)
            times[name].append(1e6 * (time.perf_counter() - begun))
    own = times["bare oracle"]
    base, base_tenth = statistics.median(own), float(np.quantile(own, 0.9))
    lines = [Overhead("bare oracle", base, base_tenth)]
    for name in list(oracles)[1:]:
        spent = times[name]
        lines.append(Overhead(name, statistics.median(spent) - base, float(np.quantile(spent, 0.9)) - base_tenth))
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd(), prefix=".bench-oracles-") as place:
        with ledger_round(Path(place), duels) as play:
            spent = []
            for number in range(ledger_rounds):
                begun = time.perf_counter()
                play(number)
                spent.append(1e6 * (time.perf_counter() - begun))
    lines.append(Overhead("ledger", statistics.median(spent), float(np.quantile(spent, 0.9))))
    return lines


#: The same bare oracle behind an address, so that what is measured is the server's own work.
_BARE: Final = """
import numpy as np
from duelenv import oracles

@oracles.register("bare")
def make():
    return lambda prompts, first, second: np.full(len(prompts), 0.75)
"""
_CONFIG: Final = "name: bare\nenv: PoolDuel\nmodules: bare.py\noracle: bare\nagents: [passive]\nseeds: 1\n"
_SIDES: Final = ((0, PROMPT), (1, RESPONSE), (2, RESPONSE))


def serve_rate(
    *,
    duels: int = _DUELS,
    clients: int = _CLIENTS,
    seconds: float = _SECONDS,
    folder: Path | None = None,
) -> list[Rate]:
    """Measure how many batches a second `duelenv serve` answers on loopback, none of them from its record.

    The server is a process of its own and serves the bare oracle. Asked are it with its answers in memory, with them in
    a file (on the disk before they are given), and it through the oracle `remote`.

    Args:
        duels: In a batch.
        clients: Connections, each kept alive and used by one thread.
        seconds: Of each measurement.
        folder: On the disk to be measured; the current one if absent.
    """
    from duelenv.oracles.remote import Remote

    ways: list[tuple[str, list[str], Callable[[str], Asking]]] = [
        ("server", [], _connection),
        ("server with --record", ["--record", "record.db"], _connection),
        ("the oracle 'remote'", [], lambda url: _through(remote)),
    ]
    lines = []
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd(), prefix=".bench-oracles-") as place:
        for name, words, connect in ways:
            with _server(words, Path(place)) as url:
                remote = Remote(url)
                lines.append(_rate(name, url, connect, duels, clients, seconds))
                remote.close()
    return lines


@contextmanager
def _server(words: Sequence[str], folder: Path) -> Iterator[str]:
    (folder / "bare.py").write_text(_BARE, encoding="utf-8")
    (folder / "bare.yaml").write_text(_CONFIG, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "duelenv.experiments.commands.cli",
        "serve",
        "bare.yaml",
        "--port",
        "0",
        "--rate",
        "1e6",
    ]
    process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at " not in line:
            raise UserError("the server did not start; what it says above is why")
        yield line.split(" at ")[1].strip()
    finally:
        process.terminate()
        process.communicate()


#: Takes a batch to its answers.
Asking = Callable[[Sequence[Duel]], None]


def _connection(url: str) -> Asking:
    """Ask over one connection, by the standard library: it takes the least from the server's core."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60.0)

    def put(batch: Sequence[Duel]) -> None:
        connection.request("POST", PATH, question(batch), {"content-type": "application/json"})
        response = connection.getresponse()
        raw = response.read()
        if response.status != 200:
            raise RuntimeError(f"the server said {response.status}: {raw[:200]!r}")
        reply(raw, {duel.id for duel in batch})

    return put


def _through(oracle: Oracle) -> Asking:
    def put(batch: Sequence[Duel]) -> None:
        oracle([one.prompt for one in batch], [one.first for one in batch], [one.second for one in batch])

    return put


def _processor_seconds(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("process_cpu_seconds_total ")))


def _rate(name: str, url: str, connect: Callable[[str], Asking], duels: int, clients: int, seconds: float) -> Rate:
    spent: list[list[float]] = [[] for _ in range(clients)]
    errors: list[BaseException] = []
    over = threading.Event()

    def work(number: int) -> None:
        try:
            put, turn = connect(url), 0
            while not over.is_set():
                texts = [
                    [made_up_text(length, number, turn, row, side) for side, length in _SIDES] for row in range(duels)
                ]
                batch = [make_duel("", *three) for three in texts]
                begun = time.perf_counter()
                put(batch)
                spent[number].append(1e3 * (time.perf_counter() - begun))
                turn += 1
        except BaseException as error:  # said by the thread that waits
            errors.append(error)
            over.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    before, begun = _processor_seconds(url), time.perf_counter()
    for thread in threads:
        thread.start()
    over.wait(seconds)
    over.set()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    if errors:
        raise errors[0]
    times = [one for own in spent for one in own]
    processor = 1e3 * (_processor_seconds(url) - before) / len(times)
    return Rate(name, len(times) / elapsed, processor, statistics.median(times), float(np.quantile(times, 0.99)))


def _overheads_text() -> str:
    lines = [
        f"a batch of {_DUELS} duels; microseconds beyond the bare oracle, median (90th percentile)",
        "",
        *(f"{line.name:<24}{line.microseconds:>10,.0f} ({line.tenth:,.0f})" for line in wrapper_overheads()),
    ]
    return "\n".join(lines)


def _serving_text() -> str:
    lines = [
        f"batches of {_DUELS} duels over {_CLIENTS} connections on loopback; processor: milliseconds of the server "
        "for one;",
        "answer: milliseconds from question to answer, median (99th percentile)",
        "",
        f"{'':<24}{'a second':>10}{'processor':>11}{'answer':>10}",
    ]
    for one in serve_rate():
        numbers = f"{one.per_second:>10,.0f}{one.processor:>11.2f}{one.median:>10.1f} ({one.slowest:.1f})"
        lines.append(f"{one.name:<24}{numbers}")
    return "\n".join(lines)


def _judge_text() -> str:
    rate = judge_rate()
    return (
        "a judge whose model takes no time, both orders, cache and purse on the disk\n\n"
        f"{'requests a second':<24}{rate.requests:>10,.0f}\n{'duels a second':<24}{rate.duels:>10,.0f}\n"
        f"{'processor, ms a request':<24}{rate.cpu_ms:>10.2f}"
    )


#: What is measured, each a function that returns its table; a new kind of oracle adds its own here.
MEASUREMENTS: Final[tuple[Callable[[], str], ...]] = (_overheads_text, _serving_text, _judge_text)


def bench_oracles() -> Iterator[str]:
    """Measure everything there is, a table at a time."""
    for measure in MEASUREMENTS:
        yield measure()
