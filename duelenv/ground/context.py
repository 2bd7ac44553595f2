"""How many tokens a model reads: its positions, and the length up to which its rotary scaling stays the same.

A rotary scaling that switches with the length of a sequence (longrope, dynamic) gives the tokens before the switch
other positions once it is crossed. What was drawn before it and what is scored after it are then two different models,
and a long neighbour in a batch changes a short prompt. So a policy ends where its scaling would switch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

# What configurations call the number of positions; most of the old names are mapped to the first.
_NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")


@dataclass(frozen=True)
class Context:
    """Most tokens of a prompt and its response together, None for no limit, and what sets that limit."""

    length: int | None
    reason: str = "the model's context"


def context_of(base: Any) -> Context:
    """Find the context of a transformers model, without a PEFT wrapper."""
    return min(_limits(base), key=lambda limit: limit.length or 0, default=Context(None))


def first_positions(base: Any) -> list[int]:
    """List the position ids that a sequence's first token may have: 0, or behind the padding's own (RoBERTa)."""
    return list(dict.fromkeys([0, *(_reserved(table) for table in _position_tables(base) if not _shifts(table))]))


def _limits(base: Any) -> Iterator[Context]:
    config = base.config.get_text_config()
    for name in _NAMES:
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            yield Context(length)
    for table in _position_tables(base):
        yield Context(table.num_embeddings - _reserved(table))
    scalings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for scaling in [scalings, *scalings.values()] if isinstance(scalings, Mapping) else []:
        if isinstance(scaling, Mapping) and _switches(scaling):
            length = scaling.get("original_max_position_embeddings") or config.max_position_embeddings
            yield Context(int(length), f"the length at which its {scaling['rope_type']} rotary scaling switches")


def _switches(scaling: Mapping[str, Any]) -> bool:
    """Tell whether the rotary frequencies depend on the length of the sequence."""
    kind = scaling.get("rope_type")
    return kind == "dynamic" or (kind == "longrope" and scaling.get("short_factor") != scaling.get("long_factor"))


def _position_tables(base: Any) -> list[torch.nn.Embedding]:
    """Find learned embeddings of absolute positions."""
    found = []
    for path, module in base.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(module, torch.nn.Embedding) and re.search(r"(^|_)(wpe|pos|positions?)(_|$)", name):
            if not re.search(r"(^|_)rel", name):
                found.append(module)
    return found


def _shifts(table: torch.nn.Embedding) -> bool:
    """Tell whether the table itself moves the positions that it is given behind its reserved rows (OPT, BART)."""
    return isinstance(getattr(table, "offset", None), int)


def _reserved(table: torch.nn.Embedding) -> int:
    """Count the rows of a table in front of the first position."""
    if _shifts(table):
        return int(table.offset)  # type: ignore[arg-type]
    return 0 if table.padding_idx is None else table.padding_idx + 1
