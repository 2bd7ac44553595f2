"""What servers of reward models answer, by their documentation; the score of a text is the number at its end."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from duelenv.experiments.bench.rude_server import Seen


def score(text: str) -> float:
    """Read the number behind the last ':' of a text."""
    return float(text.rpartition(":")[2].split()[0])


def squashed(raw: float, on: bool) -> float:
    """Put a score through a sigmoid, where that is on."""
    return 1.0 / (1.0 + math.exp(-raw)) if on else raw


def documented(api: str, shuffled: bool = True, score: Callable[[str], float] = score) -> Any:
    """Make a function that answers a request as an API's documentation says, in any order where there is an index."""

    def indexed(entries: list[dict[str, Any]]) -> dict[str, Any]:
        numbered = [{"index": place, **entry} for place, entry in enumerate(entries)]
        if shuffled:
            random.Random(0).shuffle(numbered)
        return {"id": "x", "object": "list", "model": "m", "data": numbered, "usage": {"total_tokens": 3}}

    def answer(seen: Seen) -> Any:
        body = seen.body
        assert seen.path == "/" + api.partition("_")[2]
        if api == "vllm_classify":
            on = body.get("use_activation", True)
            probs = [[squashed(score(text), on)] for text in body["input"]]
            return indexed([{"label": "LABEL_0", "probs": one, "num_classes": 1} for one in probs])
        if api == "vllm_pooling":
            on = body.get("use_activation", True)
            last = [squashed(score(text), on) for text in body["input"]]
            return indexed([{"object": "pooling", "data": [[99.0], [-99.0], [one]]} for one in last])
        if api == "vllm_score":
            on = body.get("use_activation", True)
            assert len(body["text_1"]) == len(body["text_2"])
            return indexed([{"object": "score", "score": squashed(score(text), on)} for text in body["text_2"]])
        if api == "sglang_classify":
            return [{"embedding": [score(text)], "meta_info": {"prompt_tokens": 3}} for text in body["text"]]
        on = not body.get("raw_scores", False)
        if api == "tei_predict":
            # A list of two plain strings would be one pair.
            assert all(isinstance(one, list) for one in body["inputs"])
            return [[{"score": squashed(score(one[-1]), on), "label": "LABEL_0"}] for one in body["inputs"]]
        ranks = [{"index": place, "score": squashed(score(text), on)} for place, text in enumerate(body["texts"])]
        return sorted(ranks, key=lambda rank: -rank["score"])

    return answer
