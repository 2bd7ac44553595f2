"""Losses and bonuses by name, as a config has them; loads no torch until one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duelenv.ground.registry import Registry

if TYPE_CHECKING:
    from duelenv.agents.bonuses.base import Bonus
    from duelenv.agents.losses import PreferenceLoss

__all__ = ["BONUSES", "LOSSES"]

LOSSES: Registry[type[PreferenceLoss]] = Registry(
    "loss",
    {
        "dpo": "duelenv.agents.losses:DPO",
        "conservative": "duelenv.agents.losses:ConservativeDPO",
        "robust": "duelenv.agents.losses:RobustDPO",
        "ipo": "duelenv.agents.losses:IPO",
        "ipo_mean": "duelenv.agents.losses:MeanIPO",
        "slic": "duelenv.agents.losses:SLiC",
        "simpo": "duelenv.agents.losses:SimPO",
        "length_dpo": "duelenv.agents.losses:LengthDPO",
        "kto": "duelenv.agents.losses:KTO",
    },
)

BONUSES: Registry[type[Bonus]] = Registry(
    "bonus",
    {
        "copo": "duelenv.agents.bonuses.counting:COPO",
        "geb": "duelenv.agents.bonuses.bounded:GEB",
        "se_popo": "duelenv.agents.bonuses.bounded:SEPOPO",
        "selm": "duelenv.agents.bonuses.linear:SELM",
        "vpo": "duelenv.agents.bonuses.linear:VPO",
        "xpo": "duelenv.agents.bonuses.linear:XPO",
    },
)
