"""How fast duels pass through a judge, against a stub on loopback: a part of `duelenv bench oracles`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["JudgeRate", "judge_rate"]

#: Answers every request at once, as vLLM does with twenty log-probabilities. A process of its own, as a server is.
_STUB: Final = """
import asyncio, json

BODY = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"},
                 "logprobs": {"content": [{"token": "A", "logprob": -0.6, "bytes": [65], "top_logprobs": [
                     {"token": "A", "logprob": -0.6, "bytes": [65]}, {"token": "B", "logprob": -0.9, "bytes": [66]},
                     *({"token": t, "logprob": -9.0, "bytes": [67]} for t in "CDEFGHIJKLMNOPQRST")]}]}}],
    "usage": {"prompt_tokens": 400, "completion_tokens": 1, "total_tokens": 401},
}).encode()
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY)


class Stub(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length:]
            self.transport.write(HEAD + BODY)


async def main():
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

#: Characters of a prompt and of a response, as of a short answer of a language model.
_PROMPT, _RESPONSE = 200, 800


@dataclass(frozen=True)
class JudgeRate:
    """How fast duels pass through a judge whose model takes no time.

    Attributes:
        requests: A second; two to a duel, since both orders are shown.
        duels: A second.
        cpu_ms: Processor time of a request on this side, in milliseconds.
    """

    requests: float
    duels: float
    cpu_ms: float


def judge_rate(duels: int = 500, width: int = 16, folder: Path | None = None) -> JudgeRate:
    """Measure the whole path of a judge in a run: marks, cache and purse on disk, HTTP, log-probabilities.

    Args:
        duels: How many, after a few to warm up.
        width: Requests that are open at the same time.
        folder: On the disk to be measured; the current one if absent.
    """
    from duelenv.oracles import ask, make
    from duelenv.oracles.services.home import Home
    from duelenv.oracles.services.spending import Limits, Purse

    with tempfile.TemporaryDirectory(dir=folder or Path.cwd(), prefix=".bench-judge-") as place, _stub() as url:
        home = Home(Path(place), Purse(Limits(tokens=10**12), Path(place) / "purse.sqlite"))
        judge = make("judge", url=url, model="stub", patience={"width": width}, home=home)
        ask(judge, *_duels(2 * width, "warm"))
        begun, cpu = time.perf_counter(), time.process_time()
        ask(judge, *_duels(duels, "timed"))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return JudgeRate(2 * duels / seconds, duels / seconds, 1e3 * cpu / (2 * duels))


def _duels(count: int, name: str) -> tuple[list[str], list[str], list[str]]:
    filling = " word" * (_RESPONSE // 5)
    prompts = [f"{name} {number}".ljust(_PROMPT, "?") for number in range(count)]
    return prompts, [f"first {number}{filling}" for number in range(count)], [f"second {filling}"] * count


@contextmanager
def _stub() -> Iterator[str]:
    """Run a server in another process; yield its address."""
    with subprocess.Popen([sys.executable, "-c", _STUB], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.terminate()
