"""Runs a transformers model over prompts and what follows them; not for choosing tokens and not for losses.

A prompt can be run once and its key-value cache shared out to its K responses. Attention masks and position ids are
always explicit, so that padding on the left changes nothing. `decoding` and `scoring` are built on this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as remembered
from typing import Any

import torch

from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts

# Running a prompt once instead of K times costs a second call of the model. For a 2 x 64 model on a CPU it loses at
# 96 prompt tokens saved and wins from 512 on, with and without gradients.
_SHARE_FROM_TOKENS = 512


def run(
    model: Any,
    ids: torch.Tensor,
    attention: torch.Tensor,
    positions: torch.Tensor,
    *,
    cache: Any = None,
    use_cache: bool = False,
    keep: int | None = None,
    head: bool = True,
) -> Any:
    """One forward pass.

    Args:
        model: a transformers causal language model, or a PEFT model around one.
        ids: int64 [rows, n].
        attention: int64 [rows, cached + n], 1 on real tokens.
        positions: int64 [rows, n].
        cache: what came before; it grows by n in place.
        use_cache: whether to start a cache where none is given.
        keep: limits the logits to the last positions, in models that can.
        head: whether to run the output head; without it the output has `last_hidden_state` instead of `logits`.
    """
    base = base_model(model)
    kind: Any = type(base)
    accepted = _accepted(kind)
    settings: dict[str, Any] = {"input_ids": ids, "attention_mask": attention}
    if "position_ids" in accepted:
        settings["position_ids"] = positions
    if keep is not None and head and "logits_to_keep" in accepted:
        settings["logits_to_keep"] = keep
    settings["use_cache"] = use_cache or cache is not None
    if cache is not None:
        settings["past_key_values"] = cache
    return (model if head else base.base_model)(**settings)


def prefill(model: Any, prompts: Prompts, num_responses: int) -> tuple[torch.Tensor, Any]:
    """Runs each prompt once.

    Returns:
        Next-token logits float32 [B, V], and the cache repeated to B * K rows.

    Raises:
        UserError: the model has no key-value cache.
    """
    output = run(model, prompts.ids, prompts.attention, positions(prompts.attention), use_cache=True, keep=1)
    cache = output.past_key_values
    if cache is None:
        raise UserError(
            f"{type(base_model(model)).__name__} returned no key-value cache; expected a causal language model that "
            "supports use_cache=True"
        )
    if num_responses > 1:
        rows = torch.arange(len(prompts), device=prompts.ids.device).repeat_interleave(num_responses)
        select_rows(cache, rows)
    return output.logits[:, -1].float(), cache


def run_behind(
    model: Any, prompts: Prompts, tokens: torch.Tensor, *, cache: Any = None, keep: int | None = None, head: bool = True
) -> Any:
    """Runs tokens [B * K, n] behind their prompts: behind the cache of `prefill`, or with the prompts repeated."""
    num_responses = len(tokens) // len(prompts)
    attention = extended(prompts.attention, num_responses, tokens.shape[1])
    ids = tokens
    if cache is None:
        ids = torch.cat([prompts.ids.repeat_interleave(num_responses, 0), tokens], dim=-1)
    return run(model, ids, attention, positions(attention)[:, -ids.shape[1] :], cache=cache, keep=keep, head=head)


def sharing_pays(model: Any, prompts: Prompts, num_responses: int) -> bool:
    """Whether to run each prompt once and then its responses, rather than both together K times."""
    if model.training and torch.is_grad_enabled():
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            return False  # checkpointed layers keep no cache
    saved = prompts.ids.numel() * (num_responses - 1)
    return saved >= max(1, _SHARE_FROM_TOKENS)


def select_rows(cache: Any, rows: torch.Tensor) -> None:
    """Makes a cache hold the given rows, in place; a row may be named many times, or not at all.

    Despite its name `reorder_cache` does just that, for every kind of layer; `batch_repeat_interleave` and
    `batch_select_indices` are missing from layers with linear attention.
    """
    cache.reorder_cache(rows)


def extended(attention: torch.Tensor, num_responses: int, length: int) -> torch.Tensor:
    """The attention mask of prompts, repeated for K responses and followed by `length` ones: [B * K, T + length]."""
    repeated = attention.repeat_interleave(num_responses, 0)
    return torch.nn.functional.pad(repeated, (0, length), value=1)


def positions(attention: torch.Tensor) -> torch.Tensor:
    """Position ids that count real tokens only: [rows, T]."""
    return (attention.cumsum(-1) - 1).clamp_min(0)


def pieces(num_prompts: int, num_responses: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Cuts [B, K] into blocks of at most `most` sequences, whole prompts where they fit."""
    columns = min(num_responses, most)
    rows = max(1, most // num_responses)
    for row in range(0, num_prompts, rows):
        for column in range(0, num_responses, columns):
            yield slice(row, min(row + rows, num_prompts)), slice(column, min(column + columns, num_responses))


@contextmanager
def evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient checkpointing, which would switch the key-value cache off; undone after."""
    modules: list[Any] = list(model.modules())
    training = [module for module in modules if module.training]
    checkpointing = [module for module in modules if getattr(module, "gradient_checkpointing", False)]
    for module in training:
        module.training = False
    for module in checkpointing:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for module in checkpointing:
            module.gradient_checkpointing = True


def base_model(model: Any) -> Any:
    """The transformers model, without a PEFT wrapper."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


@remembered
def _accepted(kind: Any) -> frozenset[str]:
    """What the forward pass of a class of models can be told."""
    return frozenset(inspect.signature(kind.forward).parameters)
