"""Models with random weights, a tokenizer of words and prompts of one length, for benches of the policy side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

__all__ = ["ARCHITECTURES", "Shape", "playing", "prompts", "random_model", "word_tokenizer"]

ARCHITECTURES: Final = ("gpt_neox", "llama")


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder.

    Attributes:
        layers: Number of blocks.
        hidden: Width of the residual stream.
        heads: Attention heads.
        groups: Heads of keys and values, of a Llama.
        feedforward: Width of the feed-forward layer.
        vocabulary: Number of tokens.
        context: Most tokens of a sequence.
    """

    layers: int = 4
    hidden: int = 256
    heads: int = 4
    groups: int = 4
    feedforward: int = 1024
    vocabulary: int = 2048
    context: int = 1024


def random_model(
    architecture: str, shape: Shape, *, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> Any:
    """Make a transformers model with random weights, where it will run."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feedforward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    before = torch.get_default_dtype()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            if architecture == "gpt_neox":
                return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).eval()
            return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=shape.groups)).eval()
        finally:
            torch.set_default_dtype(before)


def word_tokenizer(vocabulary: int) -> Any:
    """Make a tokenizer whose tokens are the words w2, w3, ...; 0 ends a response and 1 pads."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<pad>": 1, **{f"w{number}": number for number in range(2, vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", padding_side="left"
    )


def prompts(count: int, tokens: int, vocabulary: int) -> list[str]:
    """Make prompts of so many random words each."""
    numbers = np.random.default_rng(0).integers(2, vocabulary, size=(count, tokens))
    return [" ".join(f"w{number}" for number in row) for row in numbers.tolist()]


def playing(env: Any, agent: Any) -> Callable[[], None]:
    """Make what plays an agent's next round in a world of text: it asks, hears and learns."""
    now = {"observation": env.reset(seed=0)[0]}

    def play() -> None:
        observation = now["observation"]
        actions = agent.act(observation)
        now["observation"], labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])

    return play
