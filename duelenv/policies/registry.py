"""Policies and samplers by name, as a config has them; loads no torch until one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from duelenv.ground.registry import Registry

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy
    from duelenv.policies.samplers import Sampler

__all__ = ["POLICIES", "SAMPLERS", "register_policy"]

POLICIES: Registry[Callable[..., CausalLMPolicy]] = Registry(
    "policy",
    {
        "path": "duelenv.policies.causal_lm:CausalLMPolicy.from_pretrained",
        "toy": "duelenv.policies.toy:toy_policy",
    },
)
"""What makes the start policy, by the name in `policy: {NAME: {...}}`; one of your own is a function of settings."""

register_policy = POLICIES.register

SAMPLERS: Registry[Callable[..., Sampler]] = Registry(
    "sampler",
    {
        "completions": "duelenv.policies.completions:CompletionsSampler",
        "generate": "duelenv.policies.samplers:GenerateSampler",
    },
    reserved=("own",),
)
"""Who draws, by the name in `sampler: {name: completions, url: ...}`; "own" is the policy's own loop."""
