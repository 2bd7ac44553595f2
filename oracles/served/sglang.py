"""The shape of SGLang's native `/classify` for reward models started with `--is-embedding`, by docs.sglang.io.

Not that of its `/v1/classify`, which answers as vLLM does and always applies a softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duelenv.oracles.served.shapes import MEGABYTE, Asked, Row, field, listed, numbered


class Classify:
    """`POST /classify`: a list of texts, and in their order a list of scores, which are raw and called embeddings."""

    path = "/classify"
    pairs = False
    one_prompt = False
    most_bytes = 4 * MEGABYTE

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write `{"text": [...]}`; there is no activation to switch off."""
        return {"text": [one.text for one in asked]}

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read `[{"embedding": [0.3], "meta_info": {...}}, ...]`: without an index, so the order is believed."""
        return [numbered(listed(field(entry, "embedding"))) for entry in listed(answer, count)]
