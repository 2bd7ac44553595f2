"""Runs a transformers model over prompts and what follows them; not for choosing tokens and not for losses.

Attention masks and position ids are explicit wherever there is padding, so that padding on the left changes nothing.
Which shortcuts a model allows is what `shortcuts.find_shortcuts` has found out. `reading` (and with it `decoding`) and
`scoring` are built on this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as remembered
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from duelenv.policies.codec import Prompts
from duelenv.policies.sharding import is_sharded


@dataclass(frozen=True)
class Shortcuts:
    """What a model may be spared; without any of them it reads whole sequences of one length from their beginning.

    Attributes:
        padding: Prompts of different lengths run in one pass, padded on the left.
        cache: A response is drawn token by token behind the key-value cache of what came before.
        sharing: A prompt stands once for all of its responses, see `shared_prompt`; gradients flow through it.
        head: The output head runs apart from the body, on the positions that matter and in pieces.
        first_position: The position id of the first token, where position ids are passed beside padding; None where
            the model works them out from the attention mask.
    """

    padding: bool = True
    cache: bool = True
    sharing: bool = True
    head: bool = True
    first_position: int | None = 0

    def __str__(self) -> str:
        names = {
            "padding": self.padding,
            "a cache": self.cache,
            "a shared prompt": self.sharing,
            "its head apart": self.head,
        }
        missing = [name for name, allowed in names.items() if not allowed]
        return f"without {' and '.join(missing)}" if missing else "with every shortcut"


def run(
    model: Any,
    ids: torch.Tensor,
    attention: torch.Tensor | None,
    shortcuts: Shortcuts,
    *,
    places: torch.Tensor | None = None,
    cache: Any = None,
    use_cache: bool = False,
    keep: int | None = None,
    head: bool = True,
) -> Any:
    """Run one forward pass.

    Args:
        model: a transformers causal language model, or a PEFT model around one.
        ids: int64 [rows, n].
        attention: int64 [rows, cached + n], 1 on real tokens; None where a layout of `shared_prompt` says what is seen.
        shortcuts: what the model allows. Where that is no padding there is none, and no mask is passed.
        places: position ids counted from 0, int64 [rows, n], beside no attention mask.
        cache: what came before; it grows by n in place.
        use_cache: whether to start a cache where none is given.
        keep: limits the logits to the last positions, in models that can.
        head: whether to run the output head; without it the output has `last_hidden_state` instead of `logits`.

    Raises:
        ValueError: position ids for a model that takes none.
    """
    base = base_model(model)
    target = base if head else body_of(base)
    kind: Any = type(target)
    accepted = _accepted(kind)
    settings: dict[str, Any] = {"input_ids": ids}
    if attention is not None and shortcuts.padding:
        settings["attention_mask"] = attention
        if shortcuts.first_position is not None and "position_ids" in accepted:
            settings["position_ids"] = positions(attention)[:, -ids.shape[1] :] + shortcuts.first_position
    if places is not None:
        if shortcuts.first_position is None or "position_ids" not in accepted:
            raise ValueError("a model that takes no position ids")
        settings["position_ids"] = places + shortcuts.first_position
    if keep is not None and head and "logits_to_keep" in accepted:
        settings["logits_to_keep"] = keep
    if "use_cache" in accepted:
        settings["use_cache"] = use_cache or cache is not None
    if cache is not None:
        settings["past_key_values"] = cache
    return (model if head else target)(**settings)


def last_hidden(
    model: Any,
    ids: torch.Tensor,
    attention: torch.Tensor | None,
    shortcuts: Shortcuts,
    *,
    places: torch.Tensor | None = None,
    cache: Any = None,
) -> torch.Tensor:
    """Compute the last hidden layer [rows, n, h], without the head where the model has a body of its own."""
    base = base_model(model)
    body = body_of(base)
    if body is not base and not is_sharded(model):
        hidden: torch.Tensor = run(model, ids, attention, shortcuts, places=places, cache=cache, head=False)[0]
        return hidden
    with watched(model) as seen:  # nor can the body of a sharded model be run by itself
        run(model, ids, attention, shortcuts, places=places, cache=cache)
    return seen[-1]


@contextmanager
def watched(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the last hidden layer of every pass, [rows, n, h]: what a body answers, or else what a head is given."""
    base = base_model(model)
    body = body_of(base)
    seen: list[torch.Tensor] = []
    if body is base:
        handle = base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    else:
        handle = body.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    try:
        yield seen
    finally:
        handle.remove()


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Compute what a model says behind last hidden layers [rows, n, h]: logits [rows, n, V].

    The model's own forward pass makes them, with a body that answers what is given, since some scale or cap their
    logits behind the head.

    Raises:
        ValueError: the model has no body of its own.
    """
    base = base_model(model)
    body = body_of(base)
    if body is base:
        raise ValueError("a model that is its own body")
    ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    answer = _Answer(last_hidden_state=hidden)
    own = body.__dict__.get("forward")  # where something has wrapped it
    body.forward = lambda *_, **__: answer
    try:
        logits: torch.Tensor = base(input_ids=ids).logits
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own
    return logits


class _Answer(BaseModelOutputWithPast):
    """What a body answers: a last hidden layer, and None for whatever else a head's model passes on."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def select_rows(cache: Any, rows: torch.Tensor) -> None:
    """Make a cache hold the given rows, in place; a row may be named many times, or not at all.

    Despite its name `reorder_cache` does just that, for every kind of layer; `batch_repeat_interleave` and
    `batch_select_indices` are missing from layers with linear attention.
    """
    cache.reorder_cache(rows)


def in_full(prompts: Prompts, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay out ids and attention [B * K, T + n] of tokens [B * K, n], each behind its own copy of its prompt."""
    num_responses = len(tokens) // len(prompts)
    attention = extended(prompts.attention, num_responses, tokens.shape[1])
    return torch.cat([prompts.ids.repeat_interleave(num_responses, 0), tokens], dim=-1), attention


def extended(attention: torch.Tensor, num_responses: int, length: int) -> torch.Tensor:
    """Extend prompts' attention mask, repeated for K responses, by `length` ones: [B * K, T + length]."""
    repeated = attention.repeat_interleave(num_responses, 0)
    return torch.nn.functional.pad(repeated, (0, length), value=1)


def positions(attention: torch.Tensor) -> torch.Tensor:
    """Compute position ids that count real tokens only: [rows, T]."""
    return (attention.cumsum(-1) - 1).clamp_min(0)


def pieces(
    prompts: Prompts, num_responses: int, most: int | None, shortcuts: Shortcuts
) -> Iterator[tuple[torch.Tensor, slice, Prompts]]:
    """Cut B prompts with K responses each into blocks that the model may run in one pass.

    Args:
        prompts: B prompts.
        num_responses: K.
        most: most sequences of a block, whole prompts where they fit; None for no limit.
        shortcuts: without padding, the prompts of a block have one length.

    Yields:
        Which prompts, int64 [b], which responses, and those prompts, padded no wider than they need.
    """
    most = len(prompts) * num_responses if most is None else most
    columns = min(num_responses, most)
    rows = max(1, most // num_responses)
    everyone = torch.arange(len(prompts))
    groups = [everyone]
    if not shortcuts.padding:
        lengths = prompts.attention.sum(-1).cpu()
        groups = [everyone[lengths == length] for length in lengths.unique()]
    for group in groups:
        for chosen in group.split(rows):
            part = prompts if len(chosen) == len(prompts) else prompts.chosen(chosen)
            for column in range(0, num_responses, columns):
                yield chosen, slice(column, min(column + columns, num_responses)), part


@contextmanager
def evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradient checkpointing, which would stop the key-value cache; undone after."""
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
    """Unwrap the transformers model from PEFT's wrapper."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def body_of(base: Any) -> Any:
    """Find what a transformers model runs before its head; the model itself where nothing of it does."""
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    if decoder is None or decoder is base or decoder is base.get_output_embeddings():  # some call their head so
        return base.base_model
    return decoder


@remembered
def _accepted(kind: Any) -> frozenset[str]:
    """Find what the forward pass of a class of models can be told."""
    return frozenset(inspect.signature(kind.forward).parameters)
