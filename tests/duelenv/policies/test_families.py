"""Model families: what is sampled, scored, scored alone and scored beside others is one and the same log-prob."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from families import families, model_of, tokenizer

from duelenv import UserError
from duelenv.policies import CausalLMPolicy
from duelenv.policies.passes import Shortcuts

LENGTH = 5
PROMPTS = ["w5", "w9 w8 w7 w30 w31 w32 w33 w34 w35 w36 w37 w38 w39 w40 w41 w42 w43 w44 w45 w46", "w60 w61 w62"]

ALL = "with every shortcut"
#: How each is run; found out on the model, and written down here so that a change is seen.
_EVERY = """
apertus bert biogpt camembert cohere2 gemma gemma2 gemma3_text gpt2 gpt_bigcode gpt_neox granite lfm2 llama mistral
mixtral modernbert-decoder nemotron olmo2 olmoe opt persimmon phi phi3 qwen2 qwen2_moe qwen3 qwen3_moe roberta smollm3
stablelm starcoder2
"""
#: Attention of their own kind, or other layers beside it.
_NO_SHARING = """
bloom codegen deepseek_v3 falcon gpt_neo gpt_oss gptj jamba mpt qwen3_next xglm
"""
_NO_CACHE = "falcon_mamba mamba mamba2 minimax openai-gpt"
FAMILIES = {
    **dict.fromkeys(_EVERY.split(), ALL),
    **dict.fromkeys("bart marian roformer".split(), "without padding and a shared prompt"),
    **dict.fromkeys(_NO_SHARING.split(), "without a shared prompt"),
    **dict.fromkeys(_NO_CACHE.split(), "without a cache and a shared prompt"),
    "rwkv": "without padding and a cache and a shared prompt",
    "llama4_text": "without a shared prompt and its head apart",
}


def policy_of(family, **changes):
    return CausalLMPolicy(model_of(family, **changes), tokenizer(), max_new_tokens=LENGTH)


def truth(policy, prompt, tokens, mask):
    """Log-prob of one response by one plain call of the model on the whole sequence."""
    ids = [int(word[1:]) for word in prompt.split()]
    said = tokens[: int(mask.sum())].tolist()
    first = policy.shortcuts.first_position
    places = {"position_ids": torch.arange(first, first + len(ids + said))[None]} if first else {}
    with torch.no_grad():  # RoBERTa works positions out from ids, and a pad that was drawn would have none
        logits = policy.model(input_ids=torch.tensor([ids + said]), **places).logits[0].double()
    steps = torch.log_softmax(logits, -1)[len(ids) - 1 : -1]
    return float(steps[torch.arange(len(said)), said].sum())


def check(policy):
    uniforms = np.random.default_rng(3).random((len(PROMPTS), 3, LENGTH))
    drawn = policy.sample(PROMPTS, 3, uniforms=uniforms)
    expected = np.array(
        [
            [truth(policy, prompt, drawn.tokens[row, k], drawn.mask[row, k]) for k in range(3)]
            for row, prompt in enumerate(PROMPTS)
        ]
    )
    np.testing.assert_allclose(drawn.log_prob, expected, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(policy.score(PROMPTS, drawn.tokens, drawn.mask), expected, atol=2e-3, rtol=1e-4)
    for row, prompt in enumerate(PROMPTS):
        alone = policy.score([prompt], drawn.tokens[row : row + 1, :1], drawn.mask[row : row + 1, :1])
        np.testing.assert_allclose(alone[0, 0], expected[row, 0], atol=2e-3, rtol=1e-4)
        again = policy.sample([prompt], 1, uniforms=uniforms[row : row + 1, 2:])
        assert again.tokens[0, 0].tolist() == drawn.tokens[row, 2].tolist()
    with_gradient = policy.log_prob(PROMPTS, drawn.tokens, drawn.mask)
    np.testing.assert_allclose(with_gradient.detach(), expected, atol=2e-3, rtol=1e-4)
    with_gradient.sum().backward()
    return drawn


@pytest.mark.parametrize("family", FAMILIES)
def test_a_response_has_one_log_prob_whatever_is_around_it(family):
    policy = policy_of(family)
    assert str(policy.shortcuts) == FAMILIES[family]
    drawn = check(policy)
    embedded = policy.embed(PROMPTS, drawn.tokens, drawn.mask)
    assert embedded.shape == (len(PROMPTS), 3, policy.hidden_size)
    assert np.isfinite(embedded).all()


def test_there_are_at_least_thirty_families():
    assert len(FAMILIES) >= 30
    assert set(FAMILIES) <= set(families())


@pytest.mark.parametrize(("family", "field"), [("jamba", "sharing"), ("rwkv", "padding"), ("bart", "padding")])
def test_a_shortcut_that_is_not_allowed_would_be_wrong(family, field):
    """The check is not overcautious: with the shortcut forced, numbers change or the model cannot be run."""
    policy = policy_of(family)
    policy.shortcuts = dataclasses.replace(policy.shortcuts, **{field: True})
    with pytest.raises(Exception):  # noqa: B017, PT011
        check(policy)


def test_a_model_that_is_run_with_care_says_so_once(caplog):
    with caplog.at_level(logging.WARNING, logger="duelenv"):
        policy_of("jamba")
    (record,) = caplog.records
    said = "JambaForCausalLM is run without a shared prompt: one prompt for several responses raises"
    assert said in record.getMessage()


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 16,
}


def test_a_rotary_scaling_that_switches_by_length_ends_the_context():
    """Before the switch and behind it there are two models: one would draw a response and the other score it."""
    policy = policy_of("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=16)
    assert policy.context_length == 16
    short = "w5 w6 w7"
    drawn = policy.sample([short], 2, uniforms=np.random.default_rng(0).random((1, 2, LENGTH)))
    expected = [truth(policy, short, drawn.tokens[0, k], drawn.mask[0, k]) for k in range(2)]
    np.testing.assert_allclose(drawn.log_prob[0], expected, atol=1e-3)
    with pytest.raises(UserError, match="the length at which its longrope rotary scaling switches, 16, less 5 new"):
        policy.sample([" ".join(["w5"] * 12)], 1)


def test_a_scaling_with_equal_factors_does_not_switch():
    same = LONGROPE | {"long_factor": [1.0] * 4}
    assert policy_of("phi3", rope_parameters=same, original_max_position_embeddings=16).context_length == 128


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"is_decoder": False}, "once more tokens follow it; expected a causal language model"),
        ("xlm", {}, "once more tokens follow it; expected a causal language model"),
    ],
)
def test_a_model_that_sees_the_future_is_refused(family, changes, message):
    with pytest.raises(UserError, match=message):
        policy_of(family, **changes)


class Stateful(torch.nn.Module):
    """What a model's own code may do wrong, wrapped around a right one."""

    def __init__(self, model, fault):
        super().__init__()
        self.model, self.fault, self.calls = model, fault, 0
        self.config, self.generation_config = model.config, model.generation_config

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)

    def forward(self, **inputs):
        self.calls += 1
        output = self.model(**inputs)
        if self.fault == "state":
            output.logits = output.logits + 0.5 * self.calls * torch.randn(output.logits.shape[-1])
        elif self.fault == "rows" and len(output.logits) > 1:
            output.logits = output.logits + output.logits.mean(0, keepdim=True)
        elif self.fault == "nan":
            output.logits = output.logits * float("nan")
        elif self.fault == "raise":
            raise KeyError("pixel_values")
        return output


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("state", "another probability|keeps a state between two calls|other probabilities"),
        ("rows", "other probabilities beside another one in a batch"),
        ("nan", "gives logits that are not finite in torch.float32"),
        ("raise", r"could not be run on token ids alone \('pixel_values'\)"),
    ],
)
def test_a_model_whose_numbers_depend_on_something_else_is_refused(fault, message):
    with pytest.raises(UserError, match=message):
        CausalLMPolicy(Stateful(model_of("llama"), fault), tokenizer(), max_new_tokens=LENGTH)


def test_shortcuts_read_as_a_sentence():
    assert str(Shortcuts()) == ALL
    assert str(Shortcuts(padding=False, sharing=False)) == "without padding and a shared prompt"


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", families())
def test_every_family_works_or_is_refused_in_a_sentence(family):
    """Writes what became of it into the file that DUELENV_FAMILIES names; docs/models.md is made of it."""
    try:
        model = model_of(family)
    except Exception as error:
        pytest.skip(f"no tiny {family}: {type(error).__name__}")
    try:
        policy = CausalLMPolicy(model, tokenizer(), max_new_tokens=LENGTH)
    except UserError as error:
        said = f"refused: {error}"
    else:
        check(policy)
        said = f"runs {policy.shortcuts}"
    assert "\n" not in said
    if "DUELENV_FAMILIES" in os.environ:
        with Path(os.environ["DUELENV_FAMILIES"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([family, said]) + "\n")
