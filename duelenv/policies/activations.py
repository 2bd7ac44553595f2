"""What a forward and backward pass over responses takes in memory, foreseen from the sizes of the model.

Counted are the tensors that the backward pass reads, of a decoder with plain attention, what it makes on the way where
it makes most, and the logits of one piece of the head. Of a model that is none of these, such as a mixture of experts,
the figure is a guess; of one with an adapter it is too high, since frozen layers keep less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from duelenv.policies.passes import Shortcuts, base_model
from duelenv.policies.scoring import LOGITS_BUDGET, checkpointing

#: Where configs say how wide the feed-forward layer is; where none does it is four times the hidden size.
_INNER = ("intermediate_size", "ffn_dim", "n_inner")


class PassSize(NamedTuple):
    """A pass over R prompts of T tokens with J responses of W tokens each, padding included."""

    rows: int
    prompt: int
    responses: int
    length: int

    def tokens(self, sharing: bool) -> int:
        """Count the tokens that go through the model, a prompt's once where its responses share it."""
        if sharing:
            return self.rows * (self.prompt + self.responses * self.length)
        return self.rows * self.responses * (self.prompt + self.length)


@dataclass(frozen=True)
class Activations:
    """What decides how much a pass keeps.

    Attributes:
        layers: Number of blocks.
        hidden: Width of the residual stream.
        queries: Width of all heads that ask.
        keys: Width of all heads of keys.
        inner: Width of the feed-forward layer.
        gated: Whether that layer has a gate beside it.
        written_out: Whether norms are made of plain products, which keep one more tensor, in float32.
        parallel: Whether attention and feed-forward layer read the same tensor.
        fused: Whether queries, keys and values come out of one product, and stay as long as one of them.
        vocabulary: Logits of a token.
        heads: That ask.
        stream: Bytes of a number in the residual stream.
        number: Bytes of a number in products and attention.
        weights: Bytes of copies of the weights in another type that a pass holds.
        weight: Bytes of one attention weight that are kept, over all heads, a mask among them.
        sharing: Whether a prompt stands once for its responses.
        head: Whether logits are made apart, in pieces.
        again: Whether layers are run again on the way back, so that only what goes into them is kept.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    gated: bool
    written_out: bool
    parallel: bool
    fused: bool
    vocabulary: int
    heads: int
    stream: int
    number: int
    weights: int
    weight: float
    sharing: bool
    head: bool
    again: bool

    @classmethod
    def of(cls, model: Any, shortcuts: Shortcuts, kind: torch.dtype | None = None) -> Activations | None:
        """Read the sizes of a model.

        Args:
            model: A transformers causal language model, or a PEFT model around one.
            shortcuts: What it allows.
            kind: The type in which autocast runs products; None for no autocast.

        Returns:
            The sizes, or None where the config does not say them.
        """
        base = base_model(model)
        config = base.config.get_text_config()
        sizes = [getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            return None
        layers, heads, hidden = map(int, sizes)  # type: ignore[arg-type]
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        width = int(getattr(config, "head_dim", None) or hidden // heads)
        inner = next((int(getattr(config, name)) for name in _INNER if getattr(config, name, None)), 4 * hidden)
        embedding = base.get_input_embeddings().weight
        stored = embedding.dtype
        number = stored if kind is None else kind
        again = checkpointing(model)
        sharing = shortcuts.sharing and not again
        together = (heads + 2 * groups) * width
        return cls(
            layers=layers,
            hidden=hidden,
            queries=heads * width,
            keys=groups * width,
            inner=inner,
            gated=any("gate" in path.rpartition(".")[2] for path, _ in base.named_modules()),
            written_out=not any(isinstance(module, torch.nn.LayerNorm) for module in base.modules()),
            parallel=any(getattr(config, name, False) for name in ("use_parallel_residual", "parallel_attn")),
            fused=any(together in one.shape for name, one in base.named_parameters() if "att" in name),
            vocabulary=int(config.vocab_size),
            heads=heads,
            stream=stored.itemsize,
            number=number.itemsize,
            weights=0 if number == stored else number.itemsize * sum(one.numel() for one in base.parameters()),
            weight=_kept_of_weights(heads, groups, width, number, embedding.device),
            sharing=sharing,
            head=shortcuts.head,
            again=again,
        )

    def bytes(self, size: PassSize) -> int:
        """Count the bytes that a pass with gradients takes at its peak, gradients of weights not counted."""
        tokens, answers, pairs = self._counts(size)
        # The way back through a layer frees about what it makes: what is alive beside all that is kept is little.
        back: float = tokens * ((4 if self.written_out else self.number) * self.hidden + self.number * self.inner)
        back += pairs * (4 + 2 * max(0.0, self.weight - self.number))
        if self.again:
            back += self._layer(size)
        logits, gradients = self.vocabulary * answers, 1
        if self.head and logits > max(LOGITS_BUDGET, self.vocabulary):
            logits, gradients = max(LOGITS_BUDGET, self.vocabulary), 2  # of the head's weights: a piece's, and the sum
        # Logits in float32, their gradient in two parts, and the sum of both.
        head = 4 * 4 * logits + gradients * self.number * self.vocabulary * self.hidden
        return int(self.kept(size) + max(back, head))

    def kept(self, size: PassSize) -> int:
        """Count the bytes of what the forward pass leaves for the way back, without logits."""
        tokens, answers, _ = self._counts(size)
        layer = self.stream * tokens * self.hidden if self.again else self._layer(size)
        ends = self.stream * (2 * tokens + 3 * answers) * self.hidden
        return int(self.layers * layer + ends + self.weights)

    def _shared(self, size: PassSize) -> bool:
        return self.sharing and size.responses > 1 and size.prompt > 0

    def _counts(self, size: PassSize) -> tuple[int, int, int]:
        """Count the tokens of a pass, those of responses, and pairs of tokens that attention weighs."""
        rows, prompt, responses, length = size
        if self._shared(size):
            pairs = rows * (prompt**2 + responses * length * (prompt + length))
        else:
            pairs = rows * responses * (prompt + length) ** 2
        return size.tokens(self._shared(size)), rows * responses * length, pairs

    def _layer(self, size: PassSize) -> float:
        """Count the bytes that a layer keeps."""
        tokens, answers, pairs = self._counts(size)
        layer = tokens * self._layer_token + pairs * self.weight
        if self._shared(size):  # every response has a copy of the prompt's keys and values
            copied = size.rows * size.responses * (size.prompt + size.length)
            layer += self.number * (2 * copied * self.keys + answers * self.queries)
        return layer

    @property
    def _layer_token(self) -> int:
        """Bytes that a layer keeps of a token, whatever its place."""
        norms = ((1 if self.parallel else 2) * self.stream + 2 * self.number) * self.hidden
        norms += 2 * 4 * self.hidden if self.written_out else 0
        attention = 3 * self.queries + 2 * self.keys + (self.queries + self.keys if self.fused else 0)
        inner = (4 if self.gated else 2) * self.inner
        return norms + self.number * (attention + inner)


def _kept_of_weights(heads: int, groups: int, width: int, kind: torch.dtype, device: torch.device) -> float:
    """Count bytes that attention keeps of a pair of tokens: the mask in another type, and weights if it keeps them."""
    asking, seen = 8, 24
    query = torch.zeros((1, heads, asking, width), dtype=kind, device=device, requires_grad=True)
    key, value = (
        torch.zeros((1, groups, seen, width), dtype=kind, device=device, requires_grad=True) for _ in range(2)
    )
    mask = torch.ones((1, 1, asking, seen), dtype=torch.bool, device=device)
    kept: dict[int, int] = {}

    def weigh(tensor: Tensor) -> Any:  # and keep nothing: what is kept would keep itself alive
        if tensor.shape[-2:] == (asking, seen):
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(weigh, lambda found: found):
        scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=groups < heads)
    return sum(kept.values()) / (asking * seen)
