"""What a policy leaves loads elsewhere: in plain transformers, from any folder, as the model that it was."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from duelenv import UserError
from duelenv.policies import CausalLMPolicy, tiny_model
from duelenv.policies.export import merge_adapter

PROMPTS = ["tell me about the garden", "a house"]
LENGTH = 8


def nudge(policy, size=0.5):
    """Moves the weights that train, as a learner would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += size * 0.1 * torch.randn(parameter.shape, generator=generator)
    policy.updated()


def trained(architecture="llama", **settings):
    policy = CausalLMPolicy(*tiny_model(architecture), max_new_tokens=LENGTH, **settings)
    nudge(policy)
    return policy


def adapted(tmp_path, name="default"):
    """A policy of an adapter over a base model that lies in a folder."""
    peft = pytest.importorskip("peft")
    model, tokenizer = tiny_model("llama")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained("base")
    with torch.random.fork_rng(devices=[]):
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(base, config, adapter_name=name)
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    nudge(policy, size=4.0)
    return policy


def answers(folder):
    """What plain transformers says most probably, with nothing but the folder."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    said = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        # Beside an adapter, transformers takes the generation config of the base model.
        length = {"max_new_tokens": LENGTH} if hasattr(model, "peft_config") else {}
        answer = model.generate(input_ids=ids, do_sample=False, **length)[0, ids.shape[1] :]
        said.append(tokenizer.decode(answer, skip_special_tokens=True))
    return said


def own_answers(policy):
    return policy.sample(PROMPTS, 1, temperature=0.0).texts[:, 0].tolist()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("how", ["export", "save"])
def test_plain_transformers_loads_the_trained_model_and_not_its_start(architecture, how, tmp_path):
    policy = trained(architecture)
    getattr(policy, how)(tmp_path / "model")
    assert (
        answers(tmp_path / "model")
        == own_answers(policy)
        != own_answers(CausalLMPolicy(*tiny_model(architecture), max_new_tokens=LENGTH))
    )
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert (tmp_path / "model" / "start").exists() == (how == "save")


def test_an_export_says_where_responses_end_and_how_long_they_are(tmp_path):
    model, tokenizer = tiny_model("llama")
    model.generation_config.eos_token_id = 7
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    policy.export(tmp_path)
    config = GenerationConfig.from_pretrained(tmp_path)
    assert sorted(config.eos_token_id) == sorted([7, tokenizer.eos_token_id])
    assert (config.pad_token_id, config.max_new_tokens) == (tokenizer.pad_token_id, LENGTH)
    assert model.generation_config.eos_token_id == 7  # the policy's own model is left as it was
    model.generation_config.max_new_tokens = 3
    policy.export(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).max_new_tokens == 3


def test_a_generation_config_that_nobody_may_save_does_not_lose_the_model(tmp_path):
    """Models are published with a temperature and without do_sample."""
    policy = trained()
    policy.model.generation_config.update(temperature=0.6, do_sample=False)
    policy.export(tmp_path)
    config = GenerationConfig.from_pretrained(tmp_path)
    assert (config.do_sample, config.temperature) == (True, 0.6)
    assert answers(tmp_path) == own_answers(policy)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.6},
        {"temperature": -1.0},  # which no setting beside it makes valid
        {"pad_token_id": -1},
        {"num_return_sequences": 3},
    ],
)
def test_a_policy_is_saved_whatever_its_generation_config(settings, tmp_path):
    policy = trained()
    for model in (policy.model, policy._roles._start):  # as it was published, before it was wrapped
        for name, value in settings.items():
            setattr(model.generation_config, name, value)
    policy.move_reference()
    policy.save(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).pad_token_id == policy.tokenizer.pad_token_id
    assert own_answers(CausalLMPolicy.load(tmp_path)) == own_answers(policy)


def logits(model, ids=(5, 6, 7, 8, 9)):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits


@pytest.mark.parametrize(
    ("tied", "settings"),
    [
        (False, {"target_modules": ["q_proj"], "use_dora": True}),
        (True, {"target_modules": ["q_proj", "lm_head"]}),
        (True, {"target_modules": ["embed_tokens"]}),
        (True, {"target_modules": ["embed_tokens", "lm_head"]}),
    ],
)
def test_adapters_of_magnitudes_and_of_tied_ends_are_the_same_elsewhere(tied, settings, tmp_path):
    peft = pytest.importorskip("peft")
    from families import model_of

    model_of("llama", tie_word_embeddings=tied).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
    policy = CausalLMPolicy(model, tiny_model("llama")[1], max_new_tokens=LENGTH)
    nudge(policy, size=2.0)
    expected = logits(policy.model)
    policy.export(tmp_path / "merged", merge=True)
    policy.export(tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "later")
    policy.export(tmp_path / "over")
    policy.export(tmp_path / "over", merge=True)  # a whole model where an adapter was
    for folder in ("adapter", "merged", "later", "over"):
        found = logits(AutoModelForCausalLM.from_pretrained(tmp_path / folder))
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(logits(policy.model), expected)
    assert CausalLMPolicy.from_pretrained(tmp_path / "adapter").parameters()


@pytest.mark.parametrize("name", ["default", "aligned"])
@pytest.mark.parametrize("moved", [False, True])
def test_an_adapter_loads_from_any_folder(name, moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = adapted(tmp_path, name)
    if moved:
        policy.move_reference()
        nudge(policy, size=4.0)
    policy.export(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where the base model's "base" means nothing
    assert not list((tmp_path / "model").glob("*/"))
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert answers(tmp_path / "model") == own_answers(policy) != answers(tmp_path / "base")


def test_a_merged_adapter_is_a_whole_model_and_the_policy_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = adapted(tmp_path)
    before = own_answers(policy)
    policy.export(tmp_path / "merged", merge=True)
    policy.export(tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "later")
    assert own_answers(policy) == before and policy.parameters()
    for folder in ("merged", "later"):
        assert not (tmp_path / folder / "adapter_config.json").exists()
        assert answers(tmp_path / folder) == before
        assert GenerationConfig.from_pretrained(tmp_path / folder).max_new_tokens == LENGTH
        assert "peft" not in (tmp_path / folder / "README.md").read_text()
    assert "peft" in (tmp_path / "adapter" / "README.md").read_text()


def test_a_model_without_an_adapter_is_not_merged(tmp_path):
    with pytest.raises(UserError, match="no adapter to merge"):
        trained().export(tmp_path, merge=True)
    trained().export(tmp_path)
    with pytest.raises(UserError, match="leave out --merge"):
        merge_adapter(tmp_path, tmp_path / "merged")


def test_a_base_model_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adapted(tmp_path).export(tmp_path / "model")
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=f"base model '{re.escape(str(tmp_path / 'base'))}'"):
        merge_adapter(tmp_path / "model", tmp_path / "merged")


def test_the_card_says_what_it_was_told(tmp_path):
    policy = trained()
    policy.export(tmp_path, facts={"agent": "thompson", "loss": "a|b", "judge": None, "base model": "org/model"})
    _, metadata, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(metadata)["base_model"] == "org/model"
    rows = dict(re.findall(r"^\| ([\w ]+) \| (.+) \|$", text, re.MULTILINE))
    assert rows == {
        "base model": "org/model",
        "updates of the weights": "1",
        "sampled at temperature": "1.0",
        "agent": "thompson",
        "loss": "a\\|b",
    }
    policy.export(tmp_path, facts={"base model": str(tmp_path)})
    assert "base_model" not in yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])


def test_the_code_on_the_card_runs(tmp_path, capsys):
    trained().export(tmp_path)
    code = re.search(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL).group(1)
    exec(code.replace("path/to/this/folder", str(tmp_path)).replace("your prompt", PROMPTS[0]), {})
    assert capsys.readouterr().out.strip()


def test_a_policy_that_version_0_1_saved_is_read(tmp_path):
    policy = trained()
    policy.move_reference()
    nudge(policy)
    policy.save(tmp_path)
    record = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**record, "format": 1}))
    for folder, names in (("policy", ("config", "model", "generation_config")), ("tokenizer", ("tokenizer",))):
        (tmp_path / folder).mkdir()
        for name in names:
            for path in list(tmp_path.glob(f"{name}*.*")):
                path.rename(tmp_path / folder / path.name)
    loaded = CausalLMPolicy.load(tmp_path)
    uniforms = np.random.default_rng(0).random((2, 3, LENGTH))
    for source in ("policy", "reference", "start"):
        left, right = (one.sample(PROMPTS, 3, uniforms=uniforms, source=source) for one in (policy, loaded))
        assert (left.tokens == right.tokens).all()
    (tmp_path / "policy.json").write_text(json.dumps({**record, "format": 3}))
    with pytest.raises(UserError, match="the format 3; this version reads formats 1 and 2"):
        CausalLMPolicy.load(tmp_path)
