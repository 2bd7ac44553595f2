"""Parts that the tests of runs register, as a user's own module would: an oracle that can count, stop and be wrong."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duelenv.labels import Stage, register_stage
from duelenv.oracles import Answer, Request, register


def counting(folder: str):
    """A plain callable without a utility. It writes down what it is asked, and stops where `stop_at` says."""

    def ask(prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        log = Path(folder) / "asked.txt"
        calls = len(log.read_text().splitlines()) if log.exists() else 0
        stop = Path(folder) / "stop_at"
        if stop.exists() and calls == int(stop.read_text()):
            stop.unlink()
            raise KeyboardInterrupt
        with log.open("a") as stream:
            stream.write(f"{os.getpid()} {len(prompts)}\n")
        longer = np.array([len(a) - len(b) for a, b in zip(first, second, strict=True)])
        return 1 / (1 + np.exp(-longer / 4))

    return ask


def broken() -> object:
    """An oracle that returns 1.2."""
    return lambda prompts, first, second: np.full(len(prompts), 1.2)


class SlowDesk:
    """A source that answers each request two rounds later, the latest first, and knows nothing after a restart."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}

    def ask(self, requests: Sequence[Request]) -> None:
        self.requests |= {request.id: request for request in requests}

    def collect(self) -> list[Answer]:
        now = max((request.round for request in self.requests.values()), default=0)
        due = [request for request in self.requests.values() if request.round <= now - 2]
        for request in due:
            del self.requests[request.id]
        return [Answer(one.id, 0.9 if len(one.first) > len(one.second) else 0.2) for one in reversed(due)]


@register_stage("turned_around")
class TurnedAround(Stage):
    """Turns every label around."""

    kind = "turned_around"

    def alter(self, passing, uniforms, clock):
        return 1.0 - passing.label


register("counting", counting)
register("slow_desk", SlowDesk)
register("broken", broken)
