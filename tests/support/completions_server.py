"""A completions server on this machine that runs a tiny policy and answers as vLLM's and SGLang's are documented to."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from duelenv.policies.codec import Prompts
from duelenv.policies.decoding import Term, draw_responses

MODEL = "tiny"


class Stub:
    """The server: its policy's weights, what it was asked, and what is wrong with it.

    Args:
        policy: draws.
        dialect: "vllm" or "sglang".
        one_seed: draw all n responses of a request with the seed itself, as SGLang's deterministic mode does.
    """

    def __init__(self, policy: Any, dialect: str = "vllm", *, one_seed: bool = False) -> None:
        self.policy = policy
        self.dialect = dialect
        self.one_seed = one_seed
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.before: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, number: False
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self._lock = threading.Lock()
        self.url = ""

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and body for a request."""
        if body["model"] != MODEL and self.dialect == "vllm":
            return 404, {
                "error": {
                    "message": f"The model `{body['model']}` does not exist.",
                    "type": "NotFoundError",
                    "code": 404,
                }
            }
        if body["temperature"] == 0 and body["n"] > 1:
            return 400, {"error": {"message": f"n must be 1 when using greedy sampling, got {body['n']}.", "code": 400}}
        ids = torch.tensor([body["prompt"]])
        count, length = body["n"], body["max_tokens"]
        seeds = [body["seed"]] * count if self.one_seed else [body["seed"] + index for index in range(count)]
        uniforms = np.stack([np.random.default_rng(seed).random(length) for seed in seeds])[np.newaxis]
        with self._lock, torch.no_grad():
            drawn = draw_responses(
                [Term(1.0, lambda: self.policy._roles.playing("policy"))],
                Prompts(ids, torch.ones_like(ids)),
                torch.from_numpy(uniforms),
                body["temperature"],
                self.policy.shortcuts,
                end_ids=body["stop_token_ids"],
                pad_id=0,
            )
        choices = [self._choice(body, drawn, index) for index in range(count)]
        answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"], "choices": choices}
        answer["usage"] = {"prompt_tokens": ids.shape[1], "completion_tokens": int(drawn.mask.sum())}
        if self.dialect == "sglang":
            answer["metadata"] = {"weight_version": "default"}
        return 200, self.change(answer)

    def _choice(self, body: dict[str, Any], drawn: Any, index: int) -> dict[str, Any]:
        length = int(drawn.mask[0, index].sum())
        ids = drawn.tokens[0, index, :length].tolist()
        ended = ids[-1] in body["stop_token_ids"]
        text = self.policy.tokenizer.decode(ids, skip_special_tokens=True)
        names = [f"token_id:{token}" for token in ids] if self.dialect == "vllm" else [str(token) for token in ids]
        choice = {
            "index": index,
            "text": text,
            "logprobs": {
                "text_offset": [0] * length,
                "token_logprobs": drawn.log_prob[0, index, :length].tolist(),
                "tokens": names,
                "top_logprobs": [{}] * length,
            },
            "finish_reason": "stop" if ended else "length",
            "prompt_token_ids": body["prompt"],
            "token_ids": ids,
        }
        if self.dialect == "vllm":
            return choice | {"stop_reason": None, "prompt_logprobs": None}
        return choice | {"matched_stop": ids[-1] if ended else None}


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break a connection: the client gets a reset, not an end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def send(handler: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    """Answer with JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def serving(policy: Any, dialect: str = "vllm", **settings: Any) -> Iterator[Stub]:
    """A stub that listens while the context lasts."""
    stub = Stub(policy, dialect, **settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub._lock:
                stub.asked.append(body)
                stub.headers.append(dict(self.headers))
                number = len(stub.asked)
            if stub.before(self, number):
                return
            if self.path != "/v1/completions":
                return send(self, 404, {"detail": "Not Found"})
            send(self, *stub.answer(body))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # broken connections are what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
