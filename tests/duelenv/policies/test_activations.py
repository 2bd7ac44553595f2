"""What a pass with gradients is foreseen to take, held against what torch's allocator gave out."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from duelenv.policies import CausalLMPolicy, scoring, tiny_model
from duelenv.policies.activations import Activations, PassSize
from duelenv.policies.passes import Shortcuts

PASSES = [
    PassSize(2, 16, 2, 8),
    PassSize(8, 16, 2, 8),
    PassSize(2, 48, 2, 8),
    PassSize(2, 8, 2, 40),
    PassSize(2, 16, 8, 8),
]


def policy_of(architecture, **sizes):
    return CausalLMPolicy(*tiny_model(architecture, **{"hidden": 64, **sizes}), max_new_tokens=48)


def taken(policy, size, kind=None, padded=False):
    """Bytes given out at the most in a forward and backward pass, gradients aside."""
    prompts = [" ".join(["garden"] * (size.prompt - (row % 2 if padded else 0))) for row in range(size.rows)]
    tokens = np.full(size[0:1] + size[2:], 5)
    mask = np.ones(tokens.shape, np.int8)

    def step():
        with nullcontext() if kind is None else torch.autocast("cpu", kind):
            total = policy.log_prob(prompts, tokens, mask).sum()
        total.backward()

    step()  # gradients are there
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    now = most = 0
    events = (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def check(policy, size, kind=None, **settings):
    found = Activations.of(policy.model, policy.shortcuts, kind).bytes(size)
    measured = taken(policy, size, kind, **settings)
    assert 0.9 * measured <= found <= 1.5 * measured, f"{size}: {found / measured:.2f}"


@pytest.mark.parametrize("size", PASSES)
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_the_estimate_is_near_what_is_taken(architecture, size):
    check(policy_of(architecture), size)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
@pytest.mark.parametrize("case", ["padded", "autocast", "bfloat16", "repeated", "one response", "deeper"])
def test_it_holds_however_the_model_is_run(architecture, case):
    policy = policy_of(architecture, **({"layers": 4, "hidden": 96} if case == "deeper" else {}))
    size = PassSize(4, 24, 1 if case == "one response" else 3, 24)
    if case == "bfloat16":
        policy.model.to(torch.bfloat16)
    if case == "repeated":
        policy.shortcuts = replace(policy.shortcuts, sharing=False)
    check(policy, size, torch.bfloat16 if case == "autocast" else None, padded=case == "padded")


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_long_prompts_of_low_precision_count_their_masks(architecture):
    policy = policy_of(architecture, context=160)
    policy.model.to(torch.bfloat16)
    check(policy, PassSize(2, 128, 2, 16), padded=True)


def test_logits_count_by_the_piece(monkeypatch):
    """With so wide a vocabulary they are most of it; in pieces they are not."""
    policy = policy_of("llama")
    policy.model.resize_token_embeddings(4000)
    size = PassSize(4, 8, 2, 24)
    check(policy, size)
    whole = taken(policy, size)
    monkeypatch.setattr(scoring, "LOGITS_BUDGET", 2**16)
    monkeypatch.setattr("duelenv.policies.activations.LOGITS_BUDGET", 2**16)
    check(policy, size)
    assert taken(policy, size) < 0.6 * whole


def test_layers_that_run_again_keep_little():
    policy = policy_of("gpt_neox", layers=6)
    size = PassSize(4, 24, 2, 24)
    usual = Activations.of(policy.model, policy.shortcuts).bytes(size)
    policy.model.gradient_checkpointing_enable()
    policy.model.train()
    assert Activations.of(policy.model, policy.shortcuts).bytes(size) < usual / 2
    check(policy, size)


def test_a_model_whose_config_says_nothing_is_not_foreseen():
    config = SimpleNamespace(num_attention_heads=4, hidden_size=64)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config))
    assert Activations.of(model, Shortcuts()) is None


@pytest.mark.parametrize("field", range(4))
def test_more_of_anything_takes_more(field):
    policy = policy_of("gpt_neox")
    found = Activations.of(policy.model, policy.shortcuts)
    size = PassSize(2, 16, 2, 8)
    more = size._replace(**{size._fields[field]: size[field] + 1})
    assert found.bytes(more) > found.bytes(size)
