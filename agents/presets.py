"""Agents of the literature that are nothing but a choice of parts: one table, a row each.

An agent of this kind is an ask rule with what belongs to it: a bonus in the loss, what happens to the reference, what
is replayed. Where a method needs more than names of parts it has a file of its own (`selm`, `thompson`, `d2po`). Every
choice is a default: `make("xpo", env, replay=0)` plays XPO without its history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from duelenv.agents.asking.prompts import prefer_prompts
from duelenv.agents.base import Agent, Builder, SettingsReader, register
from duelenv.agents.composed import ComposedAgent
from duelenv.agents.parts import compose
from duelenv.core import AgentView
from duelenv.ground import checks
from duelenv.ground.errors import UserError


@dataclass(frozen=True)
class Preset:
    """Which parts an agent is made of.

    Attributes:
        about: The method and its source.
        ask: Which two candidates duel, one of `duelenv.agents.asking.ASK`.
        defaults: Settings of its parts that differ from theirs.
        bonus: The optimist's term beside the loss, one of `duelenv.agents.bonuses.BONUSES`; None for none.
        alpha: From the world to the bonus's default strength; None takes the bonus's own.
        prompts: Which rows of a selective world ask, an eighth of them, one of `duelenv.agents.asking.PROMPTS`; None
            asks in all.
        needs_policy: Whether it is about a policy model alone; others learn a belief in worlds of features.
    """

    about: str
    ask: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    bonus: str | None = None
    alpha: Callable[[AgentView], float] | None = None
    prompts: str | None = None
    needs_policy: bool = True


@dataclass(frozen=True)
class OptimismSettings:
    """Strength of optimism.

    Attributes:
        alpha: Of the bonus, at least 0; None takes the agent's default.
    """

    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None:
            checks.number("alpha", self.alpha, low=0.0)


#: XPO's coefficient after T rounds is this over sqrt(T): 1e-3 for a hundred.
_XPO_SCALE: Final = 0.01

PRESETS: Final = {
    "xpo": Preset(
        "XPO (arXiv 2405.21046): policy against the fixed reference, the bonus alpha E_ref[log pi] with alpha falling "
        "as 1 / sqrt(T), and all history kept: old duels are drawn from it beside each round's.",
        ask="against_reference",
        defaults={"replay": 16},
        bonus="xpo",
        alpha=lambda view: _XPO_SCALE / math.sqrt(view.horizon),
    ),
    "vpo": Preset(
        "VPO (arXiv 2405.19320), online: SELM's bonus, derived from a calibration of the reward on the reference.",
        ask="against_reference",
        bonus="vpo",
    ),
    "geb": Preset(
        "GEB (arXiv 2510.03269): a bonus that is optimistic by a condition which the others do not meet.",
        ask="against_reference",
        bonus="geb",
    ),
    "se_popo": Preset(
        "SE-POPO (arXiv 2502.00666): the chance that the sampler's response wins is pushed down; the sampler is the "
        "reference, which follows the policy.",
        ask="against_reference",
        defaults={"reference": "moving"},
        bonus="se_popo",
    ),
    "copo": Preset(
        "COPO (arXiv 2501.12735): responses of the reference that are like few that have duelled are pushed up.",
        ask="against_reference",
        bonus="copo",
    ),
    "pilaf": Preset(
        "PILAF (arXiv 2502.04270): of half the prompts two of the policy's responses, of the others one of each of its "
        "mixtures with the reference.",
        ask="pilaf",
    ),
    "activedpo": Preset(
        "ActiveDPO (arXiv 2505.19241): the two responses whose gradients are furthest apart where no label has told.",
        ask="gradient_distance",
        prompts="own",
    ),
    "frugal": Preset(
        "A composition of this project: of all prompts and pairs of a round those are asked whose gap may be largest, "
        "the best that may be true of one response against the worst of another (DeltaUCB, arXiv 2603.09692, over "
        "prompts too). Old duels are taught again, and of every prompt the best against the worst by the belief.",
        ask="deltaucb",
        defaults={
            "belief": "linear_logistic",
            "prior_precision": 0.3,
            "replay": 14,
            "teach": "best_worst",
            "target": "mean",
        },
        prompts="own",
        needs_policy=False,
    ),
    "best_of_n": Preset(
        "The best under the belief's mean against any other: iterated best-of-n sampling, which explores nothing.",
        ask="best_of_n",
        needs_policy=False,
    ),
    "offline": Preset(
        "DPO on pairs of the start model alone, whatever the policy has become: the offline baseline.",
        ask="offline",
    ),
}


def build(name: str, view: AgentView, seed: int, settings: SettingsReader) -> ComposedAgent:
    """Build an agent of the table.

    Raises:
        UserError: The world lacks what its parts need, or a setting is refused.
    """
    preset = PRESETS[name]
    if preset.needs_policy and view.policy is None:
        raise UserError(
            f"agent {name!r} is about the policy that it trains, and {view.world} has none; use "
            "duelenv/AlignmentDuel-v0, or an agent that learns a belief, such as 'thompson'"
        )
    defaults = dict(preset.defaults)
    if preset.bonus is not None:
        alpha = settings.take(OptimismSettings).alpha
        if alpha is None and preset.alpha is not None:
            alpha = preset.alpha(view)
        defaults |= {"bonus": preset.bonus, "bonus_settings": {} if alpha is None else {"alpha": alpha}}
    settings.prefer(**defaults)
    if preset.prompts is not None:
        prefer_prompts(settings, view, preset.prompts)
    agent = compose(view, seed, settings, name=name, ask=preset.ask)
    if name == "offline" and "start" not in view.sources:
        _check_stands(agent)
    return agent


def _check_stands(agent: ComposedAgent) -> None:
    """Raise `UserError` where the reference, which stands for the start, would follow the policy."""
    from duelenv.agents.learners import PreferenceLearner

    if isinstance(agent.learner, PreferenceLearner) and agent.learner.settings.reference == "moving":
        raise UserError(
            "agent 'offline' duels responses of the reference, which reference='moving' lets follow the policy; leave "
            "it out, or set sources={'start': ...} in the world"
        )


def _builder(name: str) -> Builder:
    def builder(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
        return build(name, view, seed, settings)

    builder.__name__, builder.__doc__ = name, PRESETS[name].about
    return builder


for _name in PRESETS:
    register(_name, _builder(_name))
