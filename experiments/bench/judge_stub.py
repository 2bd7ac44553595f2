"""A model that judges, behind the stub server: its answers have the shapes that OpenAI, vLLM and SGLang document."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from duelenv.experiments.bench.rude_server import Behaviour, RudeServer, Seen, rude_server

MODEL = "tiny-judge"


def texts_of(seen: Seen) -> tuple[str, str, str]:
    """Find the prompt and the two responses of a request, by the marks that its system message names."""
    said = "\n".join(message["content"] for message in seen.body["messages"])
    mark = re.search(r"<<([0-9a-f]{24})>>", said)
    assert mark is not None, said
    prompt, first, second = re.findall(rf"<<{mark[1]}>>\n(.*?)\n<</{mark[1]}>>", said, re.DOTALL)
    return prompt, first, second


def completion(text: str, top: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    """Write a chat completion; `top` are probabilities at its first token."""
    content = (
        [
            {
                "token": text[:1],
                "logprob": math.log(max(top.get(text[:1], 1e-9), 1e-9)),
                "bytes": list(text[:1].encode()),
                "top_logprobs": [
                    {"token": word, "logprob": math.log(p) if p else -9999.0, "bytes": list(word.encode())}
                    for word, p in top.items()
                ],
            }
        ]
        if top
        else None
    )
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None if content is None else {"content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }
    return {**body, **changes}


@dataclass
class Model:
    """Answers each request by P(A) of a function of the texts.

    Attributes:
        judge: (prompt, response A, response B) -> P(A is better).
        log_probs: Whether it gives log-probabilities where they are asked for.
    """

    judge: Callable[[str, str, str], float]
    log_probs: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Any:
        """Give the good answer to a request."""
        texts = texts_of(seen)
        self.asked.append(texts)
        p = self.judge(*texts)
        top = {"A": p, "B": 1.0 - p} if self.log_probs and seen.body.get("logprobs") else None
        return completion("A" if p > 0.5 else "B", top)


def longer(prompt: str, a: str, b: str) -> float:
    """Prefer the longer response, without an eye for order."""
    return 0.9 if len(a) > len(b) else 0.1


@contextmanager
def judge_server(
    judge: Callable[[str, str, str], float] = longer, script: Sequence[Behaviour] = (), *, log_probs: bool = True
) -> Iterator[tuple[RudeServer, Model]]:
    """Run a server with a model that judges."""
    model = Model(judge, log_probs)
    with rude_server(model, script) as server:
        yield server, model
