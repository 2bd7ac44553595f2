"""Wrappers that disturb labels on their way to the agent, for any world, in any order; a moving truth is the world's.

    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=64, horizon=2_000)
    env = Delay(Flip(env, probability=0.1), mean=20.0)

`Flip` and `Corruption` change labels, `Missing` loses them, `Delay`, `AdversarialDelay` and `Batching` hold them back.
Late labels come in `info["late"]`, and `duelenv.late.LateLabels` hands them to an agent. Around a scalar world:
`duelenv.DuelEnv(Flip(scalar_env.unwrapped.vector, probability=0.1))`. Drift and abrupt change of the truth are
settings of `FeatureDuel` and `MatrixDuel`, `drift` and `changes`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from duelenv.core import DuelVectorEnv
from duelenv.ground.errors import UserError
from duelenv.wrappers.adversarial_delay import AdversarialDelay
from duelenv.wrappers.base import HoldingWrapper, LabelWrapper
from duelenv.wrappers.batching import Batching
from duelenv.wrappers.corruption import Corruption
from duelenv.wrappers.delay import Delay
from duelenv.wrappers.flip import Flip
from duelenv.wrappers.missing import Missing

__all__ = [
    "AdversarialDelay",
    "Batching",
    "Corruption",
    "Delay",
    "Flip",
    "HoldingWrapper",
    "LabelWrapper",
    "Missing",
    "make",
    "names",
]

WRAPPERS: Mapping[str, type[LabelWrapper]] = MappingProxyType(
    {wrapper.kind: wrapper for wrapper in (AdversarialDelay, Batching, Corruption, Delay, Flip, Missing)}
)
"""The wrappers by the names that run configurations use."""


def names() -> list[str]:
    """Return the names of all wrappers, sorted."""
    return sorted(WRAPPERS)


def make(name: str, env: DuelVectorEnv | LabelWrapper, **settings: Any) -> LabelWrapper:
    """Wrap an environment by a wrapper's name.

    Args:
        name: One of `names()`.
        env: A vector environment of duelenv, wrapped or not.
        **settings: The wrapper's own.

    Raises:
        UserError: An unknown name or setting, one that is missing, or a value out of range.

    Example:
        >>> import gymnasium, duelenv
        >>> env = make("flip", gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2), probability=0.1)
    """
    if name not in WRAPPERS:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names())}"
        raise UserError(f"wrapper {name!r} is unknown; {hint}")
    parameters = dict(inspect.signature(WRAPPERS[name]).parameters)
    del parameters["env"]
    for key in settings:
        if key not in parameters:
            raise UserError(f"wrapper {name!r} has no setting {key!r}; it knows {', '.join(parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in settings:
            raise UserError(f"wrapper {name!r} needs the setting {key!r}; give it")
    return WRAPPERS[name](env, **settings)
