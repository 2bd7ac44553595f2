"""Tiny models of the causal families that transformers has, with random weights: configurations shrunk by their names."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 96
_LAYERS = 2
_MOST = 3_000_000

_SMALL = {
    "vocab_size": VOCABULARY,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), _LAYERS),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "lru_width_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "multi_query_group_num", "num_kv_heads", "n_head_kv"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "attention_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("sliding_window", "attention_window", "attention_window_size", "local_attention"), 16),
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "mamba_n_groups"), 1),
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "lru_width": 32,
    "time_step_rank": 4,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


_ENCODERS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl"),
)
_ALSO: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in _ENCODERS},
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16},
    "codegen": {"rotary_dim": 4},
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 16, "layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
    | {"use_mamba_kernels": False, "mamba_dt_rank": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "mamba_head_dim": 16},
    "openai-gpt": {"vocab_size": VOCABULARY},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
    | {"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "num_hidden_layers": 2},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "n_mamba_heads": 4, "mamba_headdim": 16},
}
"""What its names alone do not make small and consistent."""


def families() -> list[str]:
    """Model types with a causal language model, sorted."""
    return sorted({config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING})


def config_of(family: str, **changes: Any) -> Any:
    """A configuration of a family with a handful of units."""
    kind = next(config for config in MODEL_FOR_CAUSAL_LM_MAPPING if config.model_type == family)
    known = kind().get_text_config() if hasattr(kind(), "get_text_config") else kind()
    small = {name: value for name, value in _SMALL.items() if hasattr(known, name) and _settable(known, name)}
    if "qk_rope_head_dim" in small:  # the width of a head is made of two parts
        small.pop("head_dim", None)
        small["num_key_value_heads"] = 4
    for name in ("layer_types", "block_types", "layers_block_type"):
        given = getattr(known, name, None)
        if isinstance(given, list | tuple) and _settable(known, name):
            small[name] = [*dict.fromkeys(given), *given][:_LAYERS]  # both kinds, where there are two
    return type(known)(**(small | _ALSO.get(family, {}) | changes))


def _settable(config: Any, name: str) -> bool:
    name = type(config).attribute_map.get(name, name)
    return not isinstance(getattr(type(config), name, None), property)


def model_of(family: str, **changes: Any) -> Any:
    """A model of a family with random weights from a fixed seed, in evaluation mode."""
    config = config_of(family, **changes)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    if size > _MOST:
        raise ValueError(f"{size:,} parameters: what makes it large is not among the names that are made small")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # small initial weights would make all tokens alike
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.float().eval()


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One word a token: w3 to w95, and pad, bos, eos."""
    words = ["<pad>", "<bos>", "<eos>", *(f"w{number}" for number in range(3, VOCABULARY))]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
