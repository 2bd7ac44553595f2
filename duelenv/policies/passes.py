"""Runs a transformers model over prompts and what follows them; not for choosing tokens and not for losses.

A prompt can be run once and its key-value cache shared out to its K responses. Attention masks and position ids are
explicit wherever there is padding, so that padding on the left changes nothing. Which of these shortcuts a model
allows is what `shortcuts.find_shortcuts` has found out. `decoding` and `scoring` are built on this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as remembered
from typing import Any

import torch

from duelenv.policies.codec import Prompts
from duelenv.policies.sharding import is_sharded

# Running a prompt once instead of K times costs a second call of the model. For a 2 x 64 model on a CPU it loses at
# 96 prompt tokens saved and wins from 512 on, with and without gradients.
_SHARE_FROM_TOKENS = 512


@dataclass(frozen=True)
class Shortcuts:
    """What a model may be spared; without any of them it reads whole sequences of one length from their beginning.

    Attributes:
        padding: Prompts of different lengths run in one pass, padded on the left.
        cache: A response is drawn token by token behind the key-value cache of what came before.
        sharing: Several tokens run in one pass behind the cache of their prompt, and gradients flow through it.
        first_position: The position id of the first token, where position ids are passed beside padding; None where
            the model works them out from the attention mask.
    """

    padding: bool = True
    cache: bool = True
    sharing: bool = True
    first_position: int | None = 0

    def __str__(self) -> str:
        names = {"padding": self.padding, "a cache": self.cache, "a shared prompt": self.sharing}
        missing = [name for name, allowed in names.items() if not allowed]
        return f"without {' and '.join(missing)}" if missing else "with every shortcut"


def run(
    model: Any,
    ids: torch.Tensor,
    attention: torch.Tensor,
    shortcuts: Shortcuts,
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
        shortcuts: what the model allows. Where that is no padding there is none, and no mask is passed.
        cache: what came before; it grows by n in place.
        use_cache: whether to start a cache where none is given.
        keep: limits the logits to the last positions, in models that can.
        head: whether to run the output head; without it the output has `last_hidden_state` instead of `logits`.
    """
    base = base_model(model)
    target = base if head else base.base_model
    kind: Any = type(target)
    accepted = _accepted(kind)
    settings: dict[str, Any] = {"input_ids": ids}
    if shortcuts.padding:
        settings["attention_mask"] = attention
        if shortcuts.first_position is not None and "position_ids" in accepted:
            settings["position_ids"] = positions(attention)[:, -ids.shape[1] :] + shortcuts.first_position
    if keep is not None and head and "logits_to_keep" in accepted:
        settings["logits_to_keep"] = keep
    if "use_cache" in accepted:
        settings["use_cache"] = use_cache or cache is not None
    if cache is not None:
        settings["past_key_values"] = cache
    return (model if head else target)(**settings)


def last_hidden(
    model: Any, ids: torch.Tensor, attention: torch.Tensor, shortcuts: Shortcuts, *, cache: Any = None
) -> torch.Tensor:
    """The last hidden layer [rows, n, h], without the head where the model has a body of its own."""
    base = base_model(model)
    if is_sharded(model) and base.base_model is not base:
        return _seen_on_the_way(model, ids, attention, shortcuts, cache)
    if base.base_model is not base:
        hidden: torch.Tensor = run(model, ids, attention, shortcuts, cache=cache, head=False)[0]
        return hidden
    # The model is its own body: what goes into its head is what it is asked for.
    seen: list[torch.Tensor] = []
    handle = base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        run(model, ids, attention, shortcuts, cache=cache)
    finally:
        handle.remove()
    return seen[0]


def _seen_on_the_way(
    model: Any, ids: torch.Tensor, attention: torch.Tensor, shortcuts: Shortcuts, cache: Any
) -> torch.Tensor:
    """The same, from a pass of the whole model: the body of a sharded one cannot be run by itself."""
    seen: list[torch.Tensor] = []
    body = base_model(model).base_model
    handle = body.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    try:
        run(model, ids, attention, shortcuts, cache=cache, keep=1)
    finally:
        handle.remove()
    return seen[0]


def prefill(model: Any, prompts: Prompts, num_responses: int, shortcuts: Shortcuts) -> tuple[torch.Tensor, Any]:
    """Runs each prompt once.

    Returns:
        Next-token logits float32 [B, V], and the cache repeated to B * K rows.
    """
    output = run(model, prompts.ids, prompts.attention, shortcuts, use_cache=True, keep=1)
    cache = output.past_key_values
    if num_responses > 1:
        rows = torch.arange(len(prompts), device=prompts.ids.device).repeat_interleave(num_responses)
        select_rows(cache, rows)
    return output.logits[:, -1].float(), cache


def run_behind(
    model: Any,
    prompts: Prompts,
    tokens: torch.Tensor,
    shortcuts: Shortcuts,
    *,
    cache: Any = None,
    keep: int | None = None,
) -> torch.Tensor:
    """Logits of tokens [B * K, n] run behind the cache of `prefill`, or with their prompts repeated: [B * K, *, V]."""
    ids, attention = behind(prompts, tokens, cached=cache is not None)
    logits: torch.Tensor = run(model, ids, attention, shortcuts, cache=cache, keep=keep).logits
    return logits


def behind(prompts: Prompts, tokens: torch.Tensor, *, cached: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids to run for tokens [B * K, n] behind their prompts, which may be cached, and their attention mask."""
    num_responses = len(tokens) // len(prompts)
    attention = extended(prompts.attention, num_responses, tokens.shape[1])
    if cached:
        return tokens, attention
    return torch.cat([prompts.ids.repeat_interleave(num_responses, 0), tokens], dim=-1), attention


class Reading:
    """K sequences behind each of B prompts, read token by token.

    They are read behind their key-value cache; where the model allows none, each step reads them from the beginning.
    """

    def __init__(self, model: Any, prompts: Prompts, num_responses: int, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self._cache: Any = None
        if shortcuts.cache:
            self.first, self._cache = prefill(model, prompts, num_responses, shortcuts)
        else:
            output = run(model, prompts.ids, prompts.attention, shortcuts, keep=1)
            self.first = output.logits[:, -1].float()
            self._ids = prompts.ids.repeat_interleave(num_responses, 0)

    first: torch.Tensor
    """Logits behind the prompts, float32 [B, V]."""

    def select(self, rows: torch.Tensor) -> None:
        """Goes on with the given rows only."""
        if self._cache is None:
            self._ids = self._ids[rows]
        else:
            select_rows(self._cache, rows)

    def next(self, model: Any, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Logits [rows, V] behind one more token each: ids [rows], attention [rows, all so far]."""
        ids = ids.unsqueeze(-1)
        if self._cache is None:
            ids = self._ids = torch.cat([self._ids, ids], dim=-1)
        logits: torch.Tensor = run(model, ids, attention, self._shortcuts, cache=self._cache, keep=1).logits[:, -1]
        return logits


def sharing_pays(model: Any, prompts: Prompts, num_responses: int, shortcuts: Shortcuts) -> bool:
    """Whether to run each prompt once and then its responses, rather than both together K times."""
    if not shortcuts.sharing:
        return False
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


def pieces(
    prompts: Prompts, num_responses: int, most: int | None, shortcuts: Shortcuts
) -> Iterator[tuple[torch.Tensor, slice, Prompts]]:
    """Cuts B prompts with K responses each into blocks that the model may run in one pass.

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
