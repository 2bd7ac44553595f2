"""Policy models: sampling, log-probs and embeddings of causal language models; not agents and not environments.

Importing this package loads no torch: the names below are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy
    from duelenv.policies.completions import CompletionsSampler
    from duelenv.policies.registry import POLICIES, SAMPLERS, register_policy
    from duelenv.policies.samplers import GenerateSampler
    from duelenv.policies.sampling import Samples
    from duelenv.policies.toy import tiny_model, toy_policy, toy_prompts

__all__ = [
    "POLICIES",
    "SAMPLERS",
    "CausalLMPolicy",
    "CompletionsSampler",
    "GenerateSampler",
    "Samples",
    "register_policy",
    "tiny_model",
    "toy_policy",
    "toy_prompts",
]

_MODULES = {
    "POLICIES": "registry",
    "SAMPLERS": "registry",
    "CausalLMPolicy": "causal_lm",
    "CompletionsSampler": "completions",
    "GenerateSampler": "samplers",
    "Samples": "sampling",
    "register_policy": "registry",
    "tiny_model": "toy",
    "toy_policy": "toy",
    "toy_prompts": "toy",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
