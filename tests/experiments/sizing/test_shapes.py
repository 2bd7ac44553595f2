"""Shapes of models, counted on models."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, Qwen2Config

from duelenv.experiments.sizing.shapes import SHAPES, ModelShape

TINY = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        GPTNeoXConfig(**TINY),
        LlamaConfig(**TINY),
        LlamaConfig(**TINY, num_key_value_heads=2, head_dim=12, mlp_bias=True),
        Qwen2Config(**TINY, num_key_value_heads=2),
    ],
    ids=["neox", "llama", "llama_grouped", "qwen2_grouped"],
)
def test_a_shape_is_that_of_the_model(config, tied):
    config = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": tied})
    model, shape = AutoModelForCausalLM.from_config(config), ModelShape.of(config)
    assert shape.parameters == model.num_parameters()
    assert shape.tied == tied
    assert shape.vocabulary * shape.hidden == model.get_input_embeddings().weight.numel()
    outside = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    assert shape.body == sum(one.numel() for one in model.parameters() if id(one) not in outside)
    assert shape.gated == (config.model_type != "gpt_neox")
    with torch.no_grad():
        layers = model(torch.arange(5)[None], use_cache=True).past_key_values.layers
    held = sum(layer.keys.numel() + layer.values.numel() for layer in layers)
    assert shape.cache_bytes == 2 * held / 5
    if config.model_type != "gpt_neox":
        from peft import LoraConfig, get_peft_model

        adapted = get_peft_model(model, LoraConfig(r=6))  # on q_proj and v_proj, as peft does unasked
        assert shape.adapter(6) == sum(one.numel() for one in adapted.parameters() if one.requires_grad)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "1b",
            GPTNeoXConfig(
                vocab_size=50304, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=8
            ),
        ),
        (
            "8b",
            LlamaConfig(
                vocab_size=128256,
                hidden_size=4096,
                intermediate_size=14336,
                num_hidden_layers=32,
                num_attention_heads=32,
                num_key_value_heads=8,
            ),
        ),
        (
            "70b",
            LlamaConfig(
                vocab_size=128256,
                hidden_size=8192,
                intermediate_size=28672,
                num_hidden_layers=80,
                num_attention_heads=64,
                num_key_value_heads=8,
            ),
        ),
    ],
    ids=SHAPES,
)
def test_named_shapes_are_those_of_their_configs(name, config):
    assert ModelShape.of(config, SHAPES[name].name) == SHAPES[name]


def test_multi_query_attention_has_one_head_of_keys():
    from transformers import FalconConfig

    shape = ModelShape.of(FalconConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4))
    assert shape.groups == 1
