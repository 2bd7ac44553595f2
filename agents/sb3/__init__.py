"""Stable-Baselines3 as a baseline: deep policy gradients, on labels or on regret; nothing that this field proposed.

Two learning signals, told apart by name everywhere:

- **self-play** learns from labels alone, like every agent here. One policy names one arm; two of its draws duel, and
  each duel is two transitions, the first arm with the label and the second with 1 - label.
- **privileged** learns from minus the regret of a pair, which needs the hidden truth. It shows what the network and
  the optimiser could reach with full information.

`SelfPlayVecEnv` and `PrivilegedVecEnv` are Stable-Baselines3's `VecEnv` over the vector worlds, for any of its
algorithms; `EquivariantPolicy` is a policy class for PPO and A2C that treats candidates alike; `train_self_play` and
`train_privileged` join the two; `SB3Agent` plays a trained model. The agent `sb3_self_play` learns in the usual loop of
`act` and `update`. Contexts of a bandit do not depend on the actions before, so gamma is 0 wherever it has a default: a
discount adds the noise of unrelated rounds to every return.

torch and Stable-Baselines3 load when one of these names is first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.core import AgentView
from duelenv.ground import checks

if TYPE_CHECKING:
    from duelenv.agents.sb3.agent import SB3Agent
    from duelenv.agents.sb3.policy import EquivariantPolicy
    from duelenv.agents.sb3.training import train_privileged, train_self_play
    from duelenv.agents.sb3.vec_env import PrivilegedVecEnv, SelfPlayVecEnv

ALGORITHMS = ("ppo", "a2c")

_HOME = {
    "EquivariantPolicy": "policy",
    "PrivilegedVecEnv": "vec_env",
    "SB3Agent": "agent",
    "SelfPlayVecEnv": "vec_env",
    "train_privileged": "training",
    "train_self_play": "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check_algorithm(algorithm: str) -> None:
    """Raise `UserError` for an algorithm other than PPO and A2C."""
    checks.one_of("algorithm", algorithm, ALGORITHMS)


@dataclass(frozen=True)
class SelfPlaySettings:
    """What both algorithms read.

    Attributes:
        algorithm: "ppo" or "a2c".
        rollout: Labelled duels between two updates of the network; each is two transitions.
        learning_rate: Of the optimiser, Adam for both.
        entropy: Weight of the policy's entropy in the loss.
        width: Units of each hidden layer of `EquivariantPolicy`.
    """

    algorithm: str = "ppo"
    rollout: int = 64
    learning_rate: float = 3e-3
    entropy: float = 0.0
    width: int = 64

    def __post_init__(self) -> None:
        check_algorithm(self.algorithm)
        checks.integer("rollout", self.rollout, low=1)
        checks.number("learning_rate", self.learning_rate, low=0.0)
        checks.number("entropy", self.entropy, low=0.0)
        checks.integer("width", self.width, low=1)


@dataclass(frozen=True)
class PPOSettings:
    """What PPO reads besides.

    Attributes:
        epochs: Passes over each rollout.
        batch_size: Transitions of a gradient step.
        clip_range: How far the ratio of new to old probability counts.
    """

    epochs: int = 4
    batch_size: int = 128
    clip_range: float = 0.2

    def __post_init__(self) -> None:
        checks.integer("epochs", self.epochs, low=1)
        checks.integer("batch_size", self.batch_size, low=2)
        checks.number("clip_range", self.clip_range, above=0.0)


@register("sb3_self_play")
def sb3_self_play(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the agent that learns by self-play in the usual loop, one for each replicate."""
    shared = settings.take(SelfPlaySettings)
    ppo = settings.take(PPOSettings) if shared.algorithm == "ppo" else None
    from duelenv.agents.sb3.replicates import OneForEach
    from duelenv.agents.sb3.self_play import SelfPlayAgent

    def make(own: AgentView, root: int) -> Agent:
        return SelfPlayAgent(own, root, shared, ppo)

    return make(view, seed) if view.replicates == 1 else OneForEach(view, seed, make)


__all__ = [
    "ALGORITHMS",
    "EquivariantPolicy",
    "PPOSettings",
    "PrivilegedVecEnv",
    "SB3Agent",
    "SelfPlaySettings",
    "SelfPlayVecEnv",
    "train_privileged",
    "train_self_play",
]
