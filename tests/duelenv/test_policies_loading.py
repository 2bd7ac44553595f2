"""What people's checkpoints and adapters become: the model as it was given, or one sentence before it is used."""

from __future__ import annotations

import json

import numpy as np
import peft
import pytest
import torch
from families import config_of, model_of, tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from duelenv import UserError
from duelenv.policies import CausalLMPolicy

LENGTH = 5
PROMPTS = ["w5 w6", "w9 w8 w7 w30"]
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.fixture
def folder(tmp_path):
    model_of("llama").save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def trained_before(model=None, **settings):
    """A LoRA model whose adapter says something, as after fine-tuning."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(model or model_of("llama"), peft.LoraConfig(**(LORA | settings)))
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
    return model


def responses(policy):
    drawn = policy.sample(PROMPTS, 2, uniforms=np.random.default_rng(0).random((2, 2, LENGTH)))
    return PROMPTS, drawn.tokens, drawn.mask


def nudge(policy, size=0.2):
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(size * torch.randn(weights.shape, generator=torch.Generator().manual_seed(weights.numel())))
    policy.updated()


# Adapters ------------------------------------------------------------------------------------------------------------


def test_an_adapter_that_was_trained_before_is_a_part_of_the_start(tmp_path):
    policy = CausalLMPolicy(trained_before(), tokenizer(), max_new_tokens=LENGTH)
    given = responses(policy)
    as_given = policy.score(*given)
    bare = CausalLMPolicy(model_of("llama"), tokenizer(), max_new_tokens=LENGTH)
    assert np.abs(as_given - bare.score(*given)).max() > 0.1
    trainable = [weights.requires_grad for weights in policy.parameters()]
    for source in ("reference", "start"):
        np.testing.assert_allclose(policy.score(*given, source=source), as_given, atol=1e-5)
    nudge(policy)
    moved = policy.score(*given)
    assert np.abs(moved - as_given).max() > 0.05
    policy.save(tmp_path)
    loaded = CausalLMPolicy.load(tmp_path, base_model=model_of("llama"))
    for one in (policy, policy.clone(), loaded):
        np.testing.assert_allclose(one.score(*given), moved, atol=1e-5)
        for source in ("reference", "start"):
            np.testing.assert_allclose(one.score(*given, source=source), as_given, atol=1e-5)
        assert [weights.requires_grad for weights in one.parameters()] == trainable
    policy.move_reference()
    np.testing.assert_allclose(policy.score(*given, source="reference"), moved, atol=1e-5)
    np.testing.assert_allclose(policy.score(*given, source="start"), as_given, atol=1e-5)
    assert policy._roles.fingerprint() == loaded._roles.fingerprint()


def test_a_new_adapter_needs_no_copy_of_itself():
    policy = CausalLMPolicy(peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA)), tokenizer())
    assert list(policy.model.peft_config) == ["default"]


def test_a_folder_with_an_adapter_alone_goes_on_with_it(folder, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(folder)
    trained_before(base).save_pretrained(tmp_path / "adapter")
    policy = CausalLMPolicy.from_pretrained(tmp_path / "adapter", max_new_tokens=LENGTH)
    given = responses(policy)
    expected = CausalLMPolicy(trained_before(), tokenizer(), max_new_tokens=LENGTH).score(*given)
    np.testing.assert_allclose(policy.score(*given), expected, atol=1e-4)
    np.testing.assert_allclose(policy.score(*given, source="start"), expected, atol=1e-4)
    assert policy.parameters()
    record = tmp_path / "adapter" / "adapter_config.json"
    record.write_text(record.read_text().replace(str(folder), str(tmp_path / "gone")))
    with pytest.raises(UserError, match=r"the base model '.*gone' of the adapter in .* could not be loaded"):
        CausalLMPolicy.from_pretrained(tmp_path / "adapter")


def test_a_new_adapter_begins_with_what_its_seed_says_and_leaves_the_generator_alone(folder):
    def weights(settings):
        before = torch.get_rng_state()
        policy = CausalLMPolicy.from_pretrained(folder, max_new_tokens=LENGTH, lora=settings)
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(7)  # what a process drew before must not matter
        return [one.detach() for name, one in policy.model.named_parameters() if "lora_A" in name]

    first, again, other = weights({"r": 3}), weights({"r": 3, "seed": 0}), weights({"r": 3, "seed": 1})
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))


def test_lora_is_a_setting(folder):
    policy = CausalLMPolicy.from_pretrained(folder, max_new_tokens=LENGTH, lora={"r": 3})
    assert policy.model.peft_config["default"].r == 3
    assert all("lora" in name for name, weights in policy.model.named_parameters() if weights.requires_grad)
    for wrong, message in (({"rank": 3}, "Unknown setting 'rank' of lora"), ({"r": -1}, "which peft refuses")):
        with pytest.raises(UserError, match=message):
            CausalLMPolicy.from_pretrained(folder, lora=wrong)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
def test_adapters_that_put_tokens_before_a_prompt_are_refused(kind):
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(model_of("llama"), config)
    with pytest.raises(UserError, match="puts tokens of its own before each prompt; expected one that changes weights"):
        CausalLMPolicy(model, tokenizer())


# Checkpoints ---------------------------------------------------------------------------------------------------------


def rewritten(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_weights_that_a_checkpoint_does_not_have_are_not_drawn(folder):
    whole = CausalLMPolicy.from_pretrained(folder, max_new_tokens=LENGTH)
    name = "model.layers.1.mlp.up_proj.weight"
    rewritten(folder, lambda weights: {key: value for key, value in weights.items() if key != name})
    with pytest.raises(UserError, match=f"lacks {name}, so that LlamaForCausalLM would begin with random weights"):
        CausalLMPolicy.from_pretrained(folder)
    assert whole.parameters()


def test_keys_with_a_prefix_are_told(folder):
    rewritten(folder, lambda weights: {f"_orig_mod.{key}": value for key, value in weights.items()})
    with pytest.raises(UserError, match=r"lacks .* and \d+ more and has _orig_mod\.\S+, .* its keys without a prefix"):
        CausalLMPolicy.from_pretrained(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_a_classifier_is_no_policy(tmp_path, tied):
    config = config_of("llama", num_labels=1, tie_word_embeddings=tied)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    message = (
        "is of LlamaForSequenceClassification and has score.weight" if tied else "lacks lm_head.weight and has score"
    )
    with pytest.raises(UserError, match=message):
        CausalLMPolicy.from_pretrained(tmp_path)


def test_a_tied_head_is_not_missing(tmp_path):
    model_of("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert CausalLMPolicy.from_pretrained(tmp_path).parameters()


def test_a_shape_that_differs_is_told(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match=r"has model\.layers\.0\.mlp\.down_proj\.weight, .* in another shape"):
        CausalLMPolicy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bf17"}, "dtype is 'bf17', expected 'auto', or one of torch"),
        ({"device": "cuda:7"}, "device is 'cuda:7', which is not there; choose one of cpu"),
        ({"device": "gpu"}, "device is 'gpu', which is not there"),
    ],
)
def test_a_wrong_setting_is_one_sentence(folder, settings, message):
    with pytest.raises(UserError, match=message):
        CausalLMPolicy.from_pretrained(folder, **settings)


def test_nothing_to_load_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no causal language model with a tokenizer could be loaded from"):
            CausalLMPolicy.from_pretrained(path)
