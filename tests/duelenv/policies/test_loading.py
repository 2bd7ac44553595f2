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


def test_an_adapter_with_the_name_of_a_frozen_copy_is_refused():
    model = peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA), adapter_name="duelenv_start")
    with pytest.raises(UserError, match=r"called 'duelenv_start', .* load it under another adapter_name"):
        CausalLMPolicy(model, tokenizer())


def test_a_policy_saved_over_another_has_its_own_start(tmp_path):
    CausalLMPolicy(trained_before(), tokenizer(), max_new_tokens=LENGTH).save(tmp_path)
    policy = CausalLMPolicy(peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA)), tokenizer())
    policy.save(tmp_path)
    given = responses(CausalLMPolicy(model_of("llama"), tokenizer(), max_new_tokens=LENGTH))
    loaded = CausalLMPolicy.load(tmp_path, base_model=model_of("llama"))
    np.testing.assert_allclose(loaded.score(*given, source="start"), policy.score(*given, source="start"), atol=1e-5)


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
    for wrong, message in (
        ({"rank": 3}, "Unknown setting 'rank' of lora"),
        ({"r": -1}, "which peft refuses"),
        ({"trainable_token_indices": [500]}, "which peft refuses"),
        (True, "lora is True, expected a mapping of settings"),
    ):
        with pytest.raises(UserError, match=message):
            CausalLMPolicy.from_pretrained(folder, lora=wrong)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
def test_adapters_that_put_tokens_before_a_prompt_are_refused(kind):
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(model_of("llama"), config)
    with pytest.raises(UserError, match="puts tokens of its own before each prompt; expected one that changes weights"):
        CausalLMPolicy(model, tokenizer())


@pytest.mark.parametrize("name", ["q_proj", "layers"])
def test_an_adapter_with_the_name_of_a_module_is_refused(name):
    model = peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA), adapter_name=name)
    with pytest.raises(UserError, match=f"the adapter '{name}' has the name of a module of the model"):
        CausalLMPolicy(model, tokenizer())
    own = peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA), adapter_name="aligned")
    CausalLMPolicy(own, tokenizer(), max_new_tokens=LENGTH)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_begins_by_changing_its_base_changes_it_once(init, tmp_path):
    model = peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA, init_lora_weights=init))
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        as_given = model.eval()(input_ids=ids).logits
        policy = CausalLMPolicy(model, tokenizer(), max_new_tokens=LENGTH)
        torch.testing.assert_close(policy.model(input_ids=ids).logits, as_given, atol=1e-4, rtol=1e-4)
    nudge(policy)
    policy.move_reference()
    given = responses(policy)
    policy.save(tmp_path)
    loaded = CausalLMPolicy.load(tmp_path, base_model=model_of("llama"))
    for source in ("policy", "reference", "start"):
        np.testing.assert_allclose(loaded.score(*given, source=source), policy.score(*given, source=source), atol=1e-3)


@pytest.mark.parametrize("kind", ["tokens alone", "beside LoRA"])
def test_an_adapter_of_a_few_tokens_that_was_trained_before_is_a_part_of_the_start(kind):
    tokens = {"token_indices": [50, 51]} if kind == "tokens alone" else {"trainable_token_indices": [50, 51]}
    config = (
        peft.TrainableTokensConfig(**tokens, task_type="CAUSAL_LM")
        if kind == "tokens alone"
        else peft.LoraConfig(**LORA, **tokens)
    )
    model = peft.get_peft_model(model_of("llama"), config)
    for name, weights in model.named_parameters():
        if "trainable_tokens_delta" in name:
            weights.data += 1.0
    policy = CausalLMPolicy(model, tokenizer(), max_new_tokens=LENGTH)
    drawn = policy.sample(["w50 w51"], 2, uniforms=np.random.default_rng(0).random((1, 2, LENGTH)))
    given = ["w50 w51"], drawn.tokens, drawn.mask
    np.testing.assert_allclose(policy.score(*given, source="start"), policy.score(*given), atol=1e-4)


def test_an_adapter_with_a_budget_of_ranks_keeps_its_start():
    config = peft.AdaLoraConfig(target_modules=LORA["target_modules"], total_step=9, task_type="CAUSAL_LM")
    policy = CausalLMPolicy(peft.get_peft_model(model_of("llama"), config), tokenizer(), max_new_tokens=LENGTH)
    given = responses(policy)
    start = policy.score(*given)
    nudge(policy)
    policy.move_reference()
    np.testing.assert_allclose(policy.score(*given, source="start"), start, atol=1e-4)
    np.testing.assert_allclose(policy.score(*given, source="reference"), policy.score(*given), atol=1e-4)


def both_active(model):
    model.add_adapter("other", peft.LoraConfig(**LORA | {"target_modules": ["k_proj"]}))
    model.base_model.set_adapter(["default", "other"])


def unfrozen(model):
    model.get_base_model().model.norm.weight.requires_grad_(True)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (both_active, {}, "the adapters default, other are active at once, expected one"),
        (unfrozen, {}, "norm.weight of the base model is trained beside the adapter"),
        (None, {"bias": "lora_only"}, "which trains biases of the base model, and the start is that model as it was"),
        (None, {"init_lora_weights": "pissa_niter_4"}, "which changes the base model at random"),
    ],
)
def test_what_would_move_the_start_is_refused(change, settings, message):
    model = peft.get_peft_model(model_of("llama"), peft.LoraConfig(**LORA, **settings))
    if change is not None:
        change(model)
    with pytest.raises(UserError, match=message):
        CausalLMPolicy(model, tokenizer())


def test_adapters_that_do_not_fit_are_one_sentence(folder, tmp_path):
    place = tmp_path / "adapter"
    trained_before(AutoModelForCausalLM.from_pretrained(folder)).save_pretrained(place)
    weights, record = place / "adapter_model.safetensors", place / "adapter_config.json"
    known, config = load_file(weights), json.loads(record.read_text())
    save_file({f"module.{name}": tensor for name, tensor in known.items()}, weights)
    with pytest.raises(UserError, match=r"could not be loaded on .*Found missing adapter keys"):
        CausalLMPolicy.from_pretrained(place)
    save_file(known, weights)
    for change, message in (
        ({"r": 8}, "could not be loaded on .* size mismatch"),
        ({"peft_type": "OF_LATER"}, "could not be loaded on"),
        ({"base_model_name_or_path": str(place)}, "is itself a folder with an adapter"),
    ):
        record.write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=message) as caught:
            CausalLMPolicy.from_pretrained(place)
        assert "\n" not in str(caught.value)


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
        ({"device": "cuda:7"}, "device is 'cuda:7', which is not there: choose from cpu"),
        ({"device": "gpu"}, "device is 'gpu', which is not there"),
        ({"device": {"": 0}}, "device is .* which is not there"),
        ({"chat_template_kwargs": [1]}, r"chat_template_kwargs is \[1\], expected a mapping of settings"),
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


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"attn_implementation": "flash_attention_2"},
        {"hidden_act": "no such"},
        {"num_attention_heads": 5},
        None,
    ],
)
def test_what_cannot_be_loaded_is_one_sentence_whoever_says_so(folder, changes):
    if changes is None:  # what is left of a file that git-lfs did not fetch
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match="no causal language model with a tokenizer could be loaded from") as caught:
        CausalLMPolicy.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_several_ends_in_a_configuration(folder):
    """As Llama 3 is published."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [2, 7]}))
    (folder / "generation_config.json").unlink()
    assert CausalLMPolicy.from_pretrained(folder).end_ids == (2, 7)


def test_logits_that_are_no_numbers_are_one_sentence():
    model = model_of("llama")
    policy = CausalLMPolicy(model, tokenizer(), max_new_tokens=LENGTH)
    model.model.embed_tokens.weight.data[60] = float("nan")
    with pytest.raises(UserError, match="gives logits that are not numbers, so that no token can be drawn"):
        policy.sample(["w5", "w60"], 2, uniforms=np.random.default_rng(0).random((2, 2, LENGTH)))


class Malicious:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pickled_weights_run_no_code_and_are_one_sentence(folder, tmp_path):
    mark = tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    torch.save({"weights": Malicious(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled together with code, which is never run; save them as safetensors"):
        CausalLMPolicy.from_pretrained(folder)
    assert not mark.exists()


def test_code_beside_a_model_is_not_run_and_is_one_sentence(folder, tmp_path):
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edited(folder / "config.json", model_type="theirs", auto_map={"AutoConfig": "theirs.Config"})
    with pytest.raises(UserError, match="comes with code of its own, which is never run"):
        CausalLMPolicy.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


def test_kernels_of_a_repository_are_refused(folder):
    edited(folder / "config.json", attn_implementation="someone/kernels")
    with pytest.raises(UserError, match="asks for the code of 'someone/kernels' as its attn_implementation"):
        CausalLMPolicy.from_pretrained(folder)


def test_an_adapter_imports_no_module_that_it_names(folder, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    trained_before(AutoModelForCausalLM.from_pretrained(folder)).save_pretrained(tmp_path / "adapter")
    where = tmp_path / "adapter" / "adapter_config.json"
    edited(where, base_model_name_or_path=str(folder), megatron_config={"a": 1}, megatron_core="theirs")
    with pytest.raises(UserError, match=r"the adapter in .* could not be loaded"):
        CausalLMPolicy.from_pretrained(tmp_path / "adapter")
    edited(where, megatron_config=None, auto_mapping={"parent_library": "theirs", "base_model_class": "Model"})
    CausalLMPolicy.from_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "ran").exists()
