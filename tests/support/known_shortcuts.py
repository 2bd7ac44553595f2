"""Which shortcuts a tiny model allows is tried once a process, not for each of the thousands that tests build."""

from __future__ import annotations

import hashlib
from typing import Any

from duelenv.ground.context import Context
from duelenv.policies.passes import Shortcuts
from duelenv.policies.shortcuts import find_shortcuts

_known: dict[object, Shortcuts] = {}


def find_shortcuts_once(model: Any, context: Context) -> Shortcuts:
    """What `find_shortcuts` finds, remembered for models of transformers' own classes with equal weights.

    Only where every shortcut is allowed: a model that lacks one is tried again, and its warning comes again.
    """
    key = _identity(model, context)
    if key in _known:
        return _known[key]
    found = find_shortcuts(model, context)
    if key is not None and found == Shortcuts():
        _known[key] = found
    return found


def _identity(model: Any, context: Context) -> object:
    """All that an answer can depend on, or None where that cannot be told: an adapter, a hook, a class of a test."""
    if not type(model).__module__.startswith("transformers.models."):
        return None
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return None
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {value.device}".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    config = model.config
    return type(model), repr(config.to_dict()), config._attn_implementation, context, digest.hexdigest()
