"""That the trial of a model is spared only where its answer is known."""

from __future__ import annotations

import pytest
import torch
from known_shortcuts import _identity, find_shortcuts_once

from duelenv.ground.context import Context
from duelenv.policies import tiny_model
from duelenv.policies.shortcuts import find_shortcuts

CONTEXT = Context(64)


def hooked(model):
    model.gpt_neox.register_forward_hook(lambda *_: None)


def of_a_test(model):
    model.__class__ = type("Own", (type(model),), {"__module__": __name__})


def replaced(model):
    model.gpt_neox.forward = model.gpt_neox.forward


def moved(model):
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-6


def eager(model):
    model.config._attn_implementation = "eager"


def test_equal_models_are_one():
    one, other = (tiny_model(seed=3)[0] for _ in range(2))
    assert _identity(one, CONTEXT) == _identity(other, CONTEXT) is not None
    assert find_shortcuts_once(one, CONTEXT) == find_shortcuts_once(other, CONTEXT) == find_shortcuts(one, CONTEXT)


@pytest.mark.parametrize("change", [hooked, of_a_test, replaced])
def test_what_may_run_otherwise_is_tried_anew(change):
    model = tiny_model()[0]
    change(model)
    assert _identity(model, CONTEXT) is None


@pytest.mark.parametrize("change", [moved, eager, torch.nn.Module.double])
def test_another_model_is_another(change):
    model, other = tiny_model()[0], tiny_model()[0]
    change(other)
    assert _identity(model, CONTEXT) != _identity(other, CONTEXT) is not None
    assert _identity(model, CONTEXT) != _identity(model, Context(32))
