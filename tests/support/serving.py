"""The server of `duelenv serve` in a thread of the test."""

import socket
import threading
import time
from contextlib import closing, contextmanager

import uvicorn

from duelenv.experiments.serving.app import make_app
from duelenv.experiments.serving.desk import Desk
from duelenv.experiments.serving.guard import Limits
from duelenv.experiments.serving.metrics import Metrics
from duelenv.experiments.serving.record import Record

#: Patience of a client that is not to keep a test waiting.
QUICK = {"pause": 0.001, "attempts": 4, "timeout": 5.0}


@contextmanager
def served(oracle, *, record=None, token=None, limits=None, local=True):
    """Serve an oracle on loopback for the length of a block; yields the address."""
    own = Record(record, oracle="test")
    app = make_app(Desk(oracle, own, Metrics()), limits=limits or Limits(), token=token, local=local)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=5))
    with closing(own), socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Counting:
    """Prefers the longer response with 0.8, and counts how often it was asked each duel."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, first, second):
        self.asked += zip(prompts, first, second, strict=True)
        return [0.8 if len(a) > len(b) else 0.3 for a, b in zip(first, second, strict=True)]
