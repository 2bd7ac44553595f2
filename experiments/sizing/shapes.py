"""The sizes of a model that decide what it costs to run: of a few known ones, and of any transformers config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["SHAPES", "ModelShape", "shape_named"]

#: Bytes of a number in bfloat16, in which weights, keys, values and activations are.
HALF: Final = 2
#: Layers whose keys and values grow with every token, as config.layer_types names them.
_ATTENTION: Final = ("full_attention", "sliding_attention")
#: Where configs say how wide the feed-forward layer is; where none does it is four times the hidden size.
_INNER: Final = ("intermediate_size", "ffn_dim", "n_inner")


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a dense decoder.

    Attributes:
        name: What it is called in a table.
        parameters: All weights, counted as `model.num_parameters()` does: tied ones once.
        layers: Number of blocks.
        hidden: Width of the residual stream.
        heads: Attention heads that ask.
        groups: Heads of keys and values; fewer than `heads` where several share one.
        head_width: Width of a head.
        feedforward: Width of the feed-forward layer.
        gated: Whether that layer has a gate beside it.
        vocabulary: Rows of the embedding.
        tied: Whether the head is the embedding.
    """

    name: str
    parameters: int
    layers: int
    hidden: int
    heads: int
    groups: int
    head_width: int
    feedforward: int
    gated: bool
    vocabulary: int
    tied: bool = False

    @classmethod
    def of(cls, config: Any, name: str | None = None) -> ModelShape:
        """Read the sizes of a transformers config.

        Weights are counted on the model itself, which is built without memory for them.

        Args:
            config: Of a causal language model.
            name: What to call it; its model type if absent.

        Raises:
            UserError: A model whose arithmetic is not that of a dense decoder with plain attention.
        """
        import torch
        from transformers import AutoModelForCausalLM

        text = config.get_text_config()
        kind = str(getattr(text, "model_type", "") or "model")
        _refuse_other_arithmetic(text, kind)
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except Exception as error:  # whatever the code of a family makes of sizes that it cannot have
            raise UserError(
                f"a {kind!r} is no causal language model that transformers builds from its config "
                f"({_first_line(error)}); give a folder with one"
            ) from None
        heads, hidden = int(text.num_attention_heads), int(text.hidden_size)
        inner = next((getattr(text, key) for key in _INNER if getattr(text, key, None)), 4 * hidden)
        output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        return cls(
            name=name or kind,
            parameters=int(model.num_parameters()),
            layers=int(text.num_hidden_layers),
            hidden=hidden,
            heads=heads,
            groups=_groups(text, heads),
            head_width=int(getattr(text, "head_dim", None) or hidden // heads),
            feedforward=int(inner),
            gated=any("gate" in path.rpartition(".")[2] for path, _ in model.named_modules()),
            vocabulary=int(embedding.weight.shape[0]),
            tied=output is not None and output.weight is embedding.weight,
        )

    @property
    def head(self) -> int:
        """Weights of the head, and of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def body(self) -> int:
        """Weights that every token is multiplied with: all but embedding and head."""
        return self.parameters - self.head * (1 if self.tied else 2)

    @property
    def queries(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        return 2 * self.layers * self.groups * self.head_width * HALF

    def kept_bytes(self, checkpointing: bool = False) -> int:
        """Count the bytes of one token's activations that the backward pass reads, without logits.

        In a layer: inputs and outputs of two norms, queries, keys, values, what attention returns, and the feed-forward
        layer before and after its activation, twice with a gate.

        Args:
            checkpointing: Keep the input of each layer alone, and make the rest again, a layer at a time.
        """
        keys = self.groups * self.head_width
        layer = 4 * self.hidden + 2 * self.queries + 2 * keys + (4 if self.gated else 2) * self.feedforward
        return HALF * (self.layers * self.hidden + layer if checkpointing else self.layers * layer)

    def adapter(self, rank: int) -> int:
        """Count the weights of a low-rank adapter on the projections of queries and values."""
        return self.layers * rank * (2 * self.hidden + self.queries + self.groups * self.head_width)


#: Pythia-1B, Llama 3 8B and Llama 3 70B.
SHAPES: Final = {
    "1b": ModelShape("1B", 1_011_781_632, 16, 2048, 8, 8, 256, 8192, False, 50304),
    "8b": ModelShape("8B", 8_030_261_248, 32, 4096, 32, 8, 128, 14336, True, 128256),
    "70b": ModelShape("70B", 70_553_706_496, 80, 8192, 64, 8, 128, 28672, True, 128256),
}


def shape_named(name: str) -> ModelShape:
    """Return a shape by name, or that of a model's folder.

    Args:
        name: Such as "8B", or a folder with a config.json.

    Raises:
        UserError: It is neither.
    """
    if name.lower() in SHAPES:
        return SHAPES[name.lower()]
    folder = Path(name)
    if not (folder / "config.json").is_file():
        known = checks.choices(name, [shape.name for shape in SHAPES.values()])
        raise UserError(f"{name!r} is neither a size nor a folder with a config.json: {known}")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers, and what it checks values with, have many
        raise UserError(f"the config.json in {name!r} cannot be read ({_first_line(error)}); correct it") from None
    return ModelShape.of(config, folder.resolve().name)


def _refuse_other_arithmetic(text: Any, kind: str) -> None:
    """Refuse experts, states in place of keys and values, compressed caches and encoders."""
    missing = [key for key in ("num_hidden_layers", "num_attention_heads", "hidden_size") if not hasattr(text, key)]
    others = sorted(set(getattr(text, "layer_types", None) or ()) - set(_ATTENTION))
    why = None
    if missing:
        why = f"its config has no {missing[0]}"
    elif others:
        why = f"it has layers of {others[0]}"
    elif getattr(text, "is_encoder_decoder", False):
        why = "it has an encoder"
    elif any((getattr(text, key, None) or 0) > 1 for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        why = "it has experts"
    elif getattr(text, "kv_lora_rank", None):
        why = "it compresses its keys and values"
    if why is not None:
        raise UserError(f"no floor for a {kind!r}: {why}; the formulas are those of a dense decoder, choose one")


def _groups(text: Any, heads: int) -> int:
    """Find the heads of keys and values."""
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        return 1
    return int(getattr(text, "num_key_value_heads", None) or getattr(text, "num_kv_heads", None) or heads)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
