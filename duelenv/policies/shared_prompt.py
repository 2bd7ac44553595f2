"""Attention over [shared prompt | own response]: a prompt's keys and values are there once for all of its responses.

It enters a model through transformers' attention interface, in two layouts. `Packed` is one row a prompt, followed by
its responses, which do not see each other: for scoring and for gradients. `SharedPrompt` is a cache in which a prompt
stands once and every response has keys and values of its own behind it: for drawing token by token. Which models
may be run so is found out on each of them by `shortcuts.find_shortcuts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from duelenv.policies.codec import Prompts

_NAME: Final = "duelenv_shared_prompt"

# What models hand to an attention function besides, which changes nothing here; anything else that says something
# would be ignored in silence, so that a model which says it does not take this path.
_IDLE: Final = frozenset({"position_ids", "cache_position", "output_attentions", "use_cache", "is_causal"})

# Kinds of layers whose masks are known here.
_KNOWN_LAYERS: Final = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True)
class Scores:
    """How a layer makes weights of queries and keys.

    Attributes:
        scaling: What their products are multiplied by.
        softcap: c of c * tanh(score / c); None for none.
        window: How many tokens a query sees, itself included; None for all before it.
        dropout: Of the weights.
    """

    scaling: float
    softcap: float | None
    window: int | None
    dropout: float


class Layout(Protocol):
    """Which tokens see which."""

    windows: list[int | None]
    """Of each layer of the model."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """Compute what a layer's tokens take from those they see: [rows, heads, n, d] of queries, keys and values."""
        ...


_layout: ContextVar[Layout] = ContextVar("layout")


@contextmanager
def laid_out(base: Any, layout: Layout) -> Iterator[None]:
    """Run a transformers model in a layout; not with gradient checkpointing, which runs it again when this is over."""
    before = [(config, config._attn_implementation) for config in _parts_of(base.config)]
    token = _layout.set(layout)
    base.config._attn_implementation = _NAME  # and that of its parts
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        _layout.reset(token)


def _parts_of(config: Any) -> Iterator[Any]:
    """Yield a configuration, then those inside it."""
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            yield from _parts_of(part)


def windows_of(base: Any) -> list[int | None]:
    """Find the window of attention of every layer.

    Raises:
        ValueError: Layers whose masks are not known here.
    """
    config = base.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None and getattr(config, "attention_chunk_size", None) is not None:
        kinds = ["chunked_attention"]
    unknown = set(kinds or ()) - _KNOWN_LAYERS
    if unknown:
        raise ValueError(f"layers of the kind {', '.join(sorted(unknown))}")
    layers: list[Any] = DynamicCache(config=config).layers
    return [layer.sliding_window if layer.is_sliding else None for layer in layers] or [None] * config.num_hidden_layers


class Packed:
    """B rows of T + K * W tokens: a prompt, and K responses of W tokens that see it and themselves.

    Args:
        attention: Of the prompts, int64 [B, T], 0 on the padding before them.
        num_responses: K.
        length: W.
        windows: See `Layout`.
    """

    def __init__(self, attention: Tensor, num_responses: int, length: int, windows: list[int | None]) -> None:
        self.windows = windows
        self._shape = len(attention), num_responses, length
        self._prompt = attention.shape[1]
        self._real = attention.bool()
        self._padded = bool((attention == 0).any())
        self._masks: dict[int | None, tuple[Tensor | None, Tensor]] = {}

    def places(self) -> Tensor:
        """Count position ids from 0, int64 [B, T + K * W]."""
        _, num_responses, length = self._shape
        counted = self._real.long().cumsum(-1)
        own = counted[:, -1:] + torch.arange(length, device=counted.device)
        return torch.cat([(counted - 1).clamp_min(0), own.repeat(1, num_responses)], dim=-1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """See `Layout`."""
        rows, num_responses, length = self._shape
        within, behind = self._mask(scores.window, query.device)
        # Splits and no slices: each slice would be a whole array of zeros on the way back.
        sizes = [self._prompt, num_responses * length]
        asked, own_query = query.split(sizes, dim=2)
        keys, own_keys = key.split(sizes, dim=2)
        values, own_values = value.split(sizes, dim=2)
        read = _attend(asked, keys, values, within, scores)
        if length == 0:
            return read

        def own(states: Tensor) -> Tensor:  # [B, heads, K * W, d] -> [B, K, heads, W, d]
            return states.unflatten(2, (num_responses, length)).transpose(1, 2)

        def whole(shared: Tensor, states: Tensor) -> Tensor:  # [B * K, heads, T + W, d]
            shared = shared[:, None].expand(-1, num_responses, -1, -1, -1)
            return torch.cat([shared, own(states)], dim=-2).flatten(0, 1)

        keys, values = whole(keys, own_keys), whole(values, own_values)
        said = _attend(own(own_query).flatten(0, 1), keys, values, behind, scores)
        said = said.unflatten(0, (rows, num_responses)).transpose(1, 2).flatten(2, 3)
        return torch.cat([read, said], dim=2)

    def _mask(self, window: int | None, device: torch.device) -> tuple[Tensor | None, Tensor]:
        """Mark what may be seen as True: within prompts, None for all before; and by responses."""
        if window not in self._masks:
            rows, num_responses, length = self._shape
            prompt = self._prompt
            place = torch.arange(prompt + length, device=device)
            seen = place[:, None] >= place
            if window is not None:
                seen = seen & (place[:, None] - place < window)
            behind = seen[prompt:].expand(rows, 1, 1, -1, -1)
            within = None
            if self._padded:
                real = torch.nn.functional.pad(self._real, (0, length), value=True)[:, None, None, None]
                behind = behind & real
                own = torch.eye(prompt, dtype=torch.bool, device=device)  # padding sees itself, lest it be not a number
                within = seen[:prompt, :prompt] & self._real[:, None, None] | own
            elif window is not None:
                within = seen[:prompt, :prompt]
            behind = behind.expand(-1, num_responses, -1, -1, -1).flatten(0, 1)
            self._masks[window] = within, behind
        return self._masks[window]


class SharedPrompt(Cache):
    """Keys and values of B prompts, once each, and of what was drawn behind them, row by row.

    Args:
        read: The cache that the prompts left.
        prompts: They.
        num_responses: K rows behind each, in order.
        length: Most tokens of a row.
        windows: See `Layout`.
    """

    def __init__(self, read: Any, prompts: Prompts, num_responses: int, length: int, windows: list[int | None]) -> None:
        rows = len(prompts) * num_responses
        width = prompts.ids.shape[1]
        if len(read.layers) != len(windows) or not all(isinstance(layer, DynamicLayer) for layer in read.layers):
            raise ValueError("a cache that does not hold one set of keys and values a layer")
        self._rows = [_Layer(layer, rows, width, length) for layer in read.layers]
        super().__init__(layers=list(self._rows))
        self.windows = windows
        self._places = prompts.attention.sum(-1, keepdim=True).repeat_interleave(num_responses, 0)
        self._owner = torch.arange(len(prompts), device=prompts.ids.device).repeat_interleave(num_responses)
        self._grid = len(prompts), num_responses
        self._slots: Tensor | None = None  # where rows stand in the grid, where they do not fill it
        self._bias: Tensor | None = None
        if bool((prompts.attention == 0).any()):
            kind = read.layers[0].keys.dtype
            none = torch.zeros(prompts.attention.shape, dtype=kind, device=prompts.ids.device)
            self._bias = none.masked_fill(prompts.attention == 0, torch.finfo(kind).min)[:, None, None]  # [B, 1, 1, T]

    def places(self) -> Tensor:
        """Count position ids from 0 of the token that comes next, int64 [rows, 1]."""
        return self._places + self._rows[0].count

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *rest: Any, **settings: Any) -> Any:
        """Add one token a row; what it sees is looked up in `attend`, which a layer calls next."""
        self._current = self._rows[layer_idx]
        return super().update(key_states, value_states, layer_idx, *rest, **settings)

    def select(self, rows: Tensor) -> None:
        """Go on with the given rows only, int64 in ascending order."""
        owner = self._owner[rows]
        kept, owner, counts = owner.unique_consecutive(return_inverse=True, return_counts=True)
        most = int(counts.max())
        self._owner, self._places = owner, self._places[rows]
        self._grid = len(kept), most
        begin = counts.cumsum(0) - counts
        rank = torch.arange(len(rows), device=rows.device) - begin[owner]
        self._slots = None if len(rows) == len(kept) * most else owner * most + rank
        if self._bias is not None:
            self._bias = self._bias[kept]
        for layer in self._rows:
            layer.select(rows, kept)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """See `Layout`; of keys and values those that `update` keeps are taken."""
        layer = self._current
        rows, heads, steps, _ = query.shape
        shared, own = layer.shared, layer.own
        groups = heads // shared.keys.shape[1]
        if steps != 1:
            raise ValueError("more than one token a row")
        first_shared = first_own = 0
        if scores.window is not None:  # columns are counted from the first of the prompt
            past = layer.width + layer.count - scores.window
            first_shared = max(0, past - (layer.width - shared.keys.shape[-1]))
            first_own = max(0, past - layer.width)
        drawn = slice(first_own, layer.count)
        query = (query * scores.scaling).view(rows, -1, groups, query.shape[-1])  # [rows, kv, G, d]
        before = self._on_grid(query) @ shared.keys[..., first_shared:]  # [B, kv, K * G, T]
        since = query @ own.keys[:, :, drawn].transpose(-1, -2)  # [rows, kv, G, n]
        if scores.softcap is not None:
            before, since = (scores.softcap * torch.tanh(part / scores.softcap) for part in (before, since))
        if self._bias is not None:
            before = before + self._bias[..., self._bias.shape[-1] - before.shape[-1] :]
        joined = torch.cat([self._in_rows(before, groups), since], dim=-1)
        weights = _softmax(joined).to(value.dtype)
        seen = joined.shape[-1] - since.shape[-1]
        out = self._in_rows(self._on_grid(weights[..., :seen]) @ shared.values[:, :, first_shared:], groups)
        out = out + weights[..., seen:] @ own.values[:, :, drawn]
        return out.reshape(rows, heads, 1, -1)

    def _on_grid(self, rows: Tensor) -> Tensor:
        """Reshape [rows, kv, G, n] -> [B, kv, K * G, n]; zeros fill up a prompt with fewer than K rows."""
        prompts, most = self._grid
        if self._slots is not None:
            rows = rows.new_zeros((prompts * most, *rows.shape[1:])).index_copy_(0, self._slots, rows)
        return rows.unflatten(0, (prompts, most)).transpose(1, 2).flatten(2, 3)

    def _in_rows(self, grid: Tensor, groups: int) -> Tensor:
        """Undo `_on_grid`."""
        rows = grid.unflatten(2, (-1, groups)).transpose(1, 2).flatten(0, 1)
        return rows if self._slots is None else rows[self._slots]


class _Layer(DynamicLayer):
    """One layer of a `SharedPrompt`.

    Attributes:
        width: T, of the prompts; a layer with a window has kept the last of them alone.
        count: Tokens behind the prompts so far.
        shared: Keys [B, kv, d, T] and values [B, kv, T, d].
        own: Keys and values [rows, kv, L, d], of which the first `count` are there.
    """

    def __init__(self, read: Any, rows: int, width: int, length: int) -> None:
        super().__init__()
        self.width, self.count = width, 0
        self.shared = _KeysValues(read.keys.transpose(-1, -2).contiguous(), read.values)
        self.own = _KeysValues(
            *(part.new_empty(rows, part.shape[1], length, part.shape[-1]) for part in (read.keys, read.values))
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *rest: Any, **settings: Any) -> tuple[Tensor, Tensor]:
        self.own.keys[:, :, self.count] = key_states.squeeze(2)
        self.own.values[:, :, self.count] = value_states.squeeze(2)
        self.count += 1
        return key_states, value_states

    def select(self, rows: Tensor, prompts: Tensor) -> None:
        self.own = _KeysValues(self.own.keys[rows], self.own.values[rows])
        if len(prompts) < len(self.shared.keys):
            self.shared = _KeysValues(self.shared.keys[prompts], self.shared.values[prompts])

    def get_seq_length(self) -> int:
        return self.width + self.count

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


@dataclass(frozen=True)
class _KeysValues:
    keys: Tensor
    values: Tensor


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scores: Scores) -> Tensor:
    """Attend in one piece, [rows, heads, n, d]; without a mask, each token sees those before it."""
    groups = query.shape[1] // key.shape[1]
    if scores.softcap is None:
        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=scores.dropout,
            is_causal=mask is None,
            scale=scores.scaling,
            enable_gqa=groups > 1,
        )
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    products = scores.scaling * query @ key.transpose(-1, -2)
    products = scores.softcap * torch.tanh(products / scores.softcap)
    products = products.masked_fill(~mask, torch.finfo(products.dtype).min)
    weights = _softmax(products).to(value.dtype)
    return torch.nn.functional.dropout(weights, scores.dropout) @ value


def _softmax(products: Tensor) -> Tensor:
    """Compute weights in float32, or in float64 where the products are."""
    return torch.softmax(products, dim=-1, dtype=torch.promote_types(products.dtype, torch.float32))


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Answer what transformers calls in every layer: outputs [rows, n, heads, d], and no weights."""
    _refuse_what_is_not_read(others)
    layout = _layout.get()
    window = layout.windows[module.layer_idx]
    for said in (sliding_window, _window_in(attention_mask)):
        if said is not None and said != (window or 0):
            raise ValueError(f"a window of {said} where the layer's is {window}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = layout.attend(query, key, value, Scores(scaling, softcap, window, dropout))
    return out.transpose(1, 2).contiguous(), None


def _window_as_mask(*, local_size: int | None = None, use_vmap: bool = False, **_: Any) -> Tensor:
    """Answer transformers' call for a mask only by how far the model would see, int64 [1, 1, 1, 1], 0 for all."""
    if use_vmap:
        raise ValueError("a mask that adds something of the model's own")
    return torch.full((1, 1, 1, 1), local_size or 0)


def _window_in(mask: Tensor | None) -> int | None:
    """Read what `_window_as_mask` has said; None where a model attends without a mask."""
    if mask is None:
        return None
    if mask.dtype != torch.int64 or mask.numel() != 1:
        raise ValueError("attention with a mask of the model's own")
    return int(mask)


def _refuse_what_is_not_read(others: Mapping[str, Any]) -> None:
    strange = [name for name, value in others.items() if name not in _IDLE and value is not None and value is not False]
    if strange or others.get("is_causal") is False:
        raise ValueError(f"attention that takes {', '.join(strange) or 'no order of tokens'}")


ALL_ATTENTION_FUNCTIONS.register(_NAME, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, _window_as_mask)
