"""The shapes of Text Embeddings Inference's `/predict` and `/rerank`, by its OpenAPI description of v1.7.1.

Both apply sigmoid or softmax unless `raw_scores` is true. `truncate` is sent as false, so that a text that is too long
is refused, whatever the server's own default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duelenv.oracles.served.shapes import MEGABYTE, Asked, Row, by_index, field, finite, listed
from duelenv.oracles.services.retrying import Unreadable


class Predict:
    """`POST /predict`: for each text a list of labels with their scores, the largest first."""

    path = "/predict"
    pairs = False
    one_prompt = False
    most_bytes = 4 * MEGABYTE

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"inputs": [["text"], ...], "raw_scores": true}`: each text in a list of its own.

        A list of two plain strings would be read as one pair.
        """
        return {"inputs": [[one.text] for one in asked], "raw_scores": raw, "truncate": False}

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `[[{"score": 0.3, "label": "LABEL_0"}], ...]`."""
        return [self._row(listed(entries)) for entries in listed(answer, count)]

    def _row(self, entries: list[Any]) -> Row:
        row: dict[str | int, float] = {str(field(one, "label")): finite(field(one, "score")) for one in entries}
        if not row or len(row) < len(entries):
            raise Unreadable("no score, or two scores of one label")
        return row


class PredictPairs(Predict):
    """`POST /predict` with prompt and response as two texts, for a model that was trained on pairs."""

    pairs = True

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"inputs": [["prompt", "response"], ...], "raw_scores": true}`."""
        return {"inputs": [[one.prompt, one.response] for one in asked], "raw_scores": raw, "truncate": False}


class Rerank:
    """`POST /rerank`: responses to one prompt; the answer comes sorted by score, so its `index` says whose it is."""

    path = "/rerank"
    pairs = True
    one_prompt = True
    most_bytes = 4 * MEGABYTE

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"query": prompt, "texts": [responses], "raw_scores": true}`."""
        texts = [one.response for one in asked]
        return {"query": asked[0].prompt, "texts": texts, "raw_scores": raw, "truncate": False}

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `[{"index": 1, "score": 0.9}, {"index": 0, "score": 0.3}]`."""
        return [{0: finite(field(entry, "score"))} for entry in by_index(answer, count)]
