"""What it costs to write every label down before anything else happens: `duelenv bench ledger`."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from duelenv.labels.arrivals import Arrivals
from duelenv.labels.ledger import Ledger
from duelenv.labels.questions import request_id
from duelenv.oracles.sources import Answer, Request

__all__ = ["bench_ledger", "ledger_round", "made_up_text"]

#: Duels in a round.
_SIZES: Final = (1, 16, 64)
_ROUNDS: Final = 200
#: Characters of a prompt and of a response, as of a short answer of a language model.
PROMPT, RESPONSE = 200, 800


def bench_ledger(folder: Path | None = None, rounds: int = _ROUNDS) -> str:
    """Measure rounds with a ledger, beside the disk's own time, and return a table.

    A round is two commits, the questions and their answers, and so waits for the disk twice. Beside it stands what the
    same disk takes to bring the same bytes down in two plain writes.

    Args:
        folder: On the disk to be measured; the current one if absent.
        rounds: Rounds of each size.
    """
    lines = [
        f"{rounds} rounds each; milliseconds a round, median (90th percentile)",
        "",
        f"{'duels a round':>13}{'ledger':>20}{'two fsyncs':>20}{'ratio':>8}",
    ]
    for size in _SIZES:
        with tempfile.TemporaryDirectory(dir=folder or Path.cwd(), prefix=".bench-ledger-") as place:
            with ledger_round(Path(place), size) as ours, _plain_round(Path(place), size) as plain:
                # In turn, so that both meet the same disk.
                times = [(_timed(ours, number), _timed(plain, number)) for number in range(rounds)]
        ledger, disk = zip(*times, strict=True)
        ratio = statistics.median(ledger) / statistics.median(disk)
        lines.append(f"{size:>13}{_spread(ledger):>20}{_spread(disk):>20}{ratio:>8.2f}")
    return "\n".join(lines)


def _timed(play: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    play(number)
    return 1e3 * (time.perf_counter() - started)


def _spread(times: tuple[float, ...]) -> str:
    return f"{statistics.median(times):.2f} ({np.quantile(times, 0.9):.2f})"


def made_up_text(length: int, *numbers: int) -> str:
    """Make a text of so many characters that no other numbers make."""
    start = "-".join(map(str, numbers))
    return start + " word" * ((length - len(start)) // 5)


@contextmanager
def ledger_round(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Lend a function that takes round after round of so many duels, by their numbers, through a ledger."""
    ledger = Ledger(folder)
    nothing = np.zeros(0, np.int64)
    actions = np.tile([0, 1], (size, 1))

    def play(number: int) -> None:
        prompts = [made_up_text(PROMPT, row) for row in range(size)]  # they come again, as in a run
        responses = [[made_up_text(RESPONSE, number, row, arm) for arm in range(2)] for row in range(size)]
        requests = [
            Request(request_id(1, number, row, prompt, *pair), number, row, prompt, *pair)
            for row, (prompt, pair) in enumerate(zip(prompts, responses, strict=True))
        ]
        ledger.put(number, requests)
        ledger.answer(number, [Answer(request.id, 0.75) for request in requests])
        shown = {"prompt": np.array(prompts, dtype=object), "responses": np.array(responses, dtype=object)}
        late = Arrivals(number, nothing, nothing, np.zeros(0), actions[:0], {}, nothing)
        ledger.tell(number, shown, actions, None, np.ones(size), late)

    yield play
    ledger.close()


@contextmanager
def _plain_round(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    with (folder / "plain").open("ab", buffering=0) as stream:

        def play(number: int) -> None:
            for content in (b"q" * (size * 2 * RESPONSE), b"a" * (size * 8)):
                stream.write(content)
                os.fsync(stream.fileno())

        yield play
