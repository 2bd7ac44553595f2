"""The shapes of vLLM's `/classify`, `/pooling` and `/score`, by its documentation and protocol up to v0.18.0.

All three apply an activation (sigmoid for one label, softmax for several) unless told otherwise. The field that tells
is `use_activation`; older versions call it `activation`, or `softmax`. Only one of them may be sent: in versions that
know all three, an older name that is there at all is read as true. A field that a server does not know is ignored,
without a word to the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duelenv.oracles.served.shapes import MEGABYTE, Asked, Row, by_index, field, finite, listed, numbered
from duelenv.oracles.services.retrying import Unreadable


class Classify:
    """`POST /classify`: one text a response, a score for each label under `probs`, raw or not."""

    path = "/classify"
    pairs = False
    one_prompt = False
    most_bytes = 4 * MEGABYTE

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"input": [...], "use_activation": false}`."""
        return {"input": [one.text for one in asked], "use_activation": not raw}

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `{"data": [{"index": 0, "label": "LABEL_0", "probs": [0.3], "num_classes": 1}, ...]}`."""
        return [numbered(listed(field(entry, "probs"))) for entry in by_index(field(answer, "data"), count)]


class Pooling:
    """`POST /pooling`: scores of a text, or of each of its tokens, the last of which has read the whole."""

    path = "/pooling"
    pairs = False
    one_prompt = False
    most_bytes = 64 * MEGABYTE  # token by token, a batch of long texts takes some

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"input": [...], "use_activation": false}`; `extra: {task: ...}` where a server has several tasks."""
        return {"input": [one.text for one in asked], "encoding_format": "float", "use_activation": not raw}

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `{"data": [{"index": 0, "object": "pooling", "data": [0.3] or [[0.1], [0.3]]}, ...]}`."""
        return [self._row(listed(field(entry, "data"))) for entry in by_index(field(answer, "data"), count)]

    def _row(self, data: list[Any]) -> Row:
        if not data:
            raise Unreadable("no score")
        return numbered(data[-1] if isinstance(data[-1], list) else data)


class Score:
    """`POST /score`: a cross-encoder over prompt and response, one score a pair."""

    path = "/score"
    pairs = True
    one_prompt = False
    most_bytes = 4 * MEGABYTE

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"text_1": [prompts], "text_2": [responses], "use_activation": false}`: two lists taken in pairs."""
        return {
            "text_1": [one.prompt for one in asked],
            "text_2": [one.response for one in asked],
            "use_activation": not raw,
        }

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `{"data": [{"index": 0, "object": "score", "score": 0.3}, ...]}`."""
        return [{0: finite(field(entry, "score"))} for entry in by_index(field(answer, "data"), count)]
