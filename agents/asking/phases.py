"""Two ask rules one after the other: find what is unknown, then exploit what is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import ASK, AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Ranked, Select
from duelenv.core import Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError

_NAME = "two_phases"


@dataclass(frozen=True)
class PhaseSettings:
    """Which rules, and how long the first.

    Attributes:
        find: The ask rule of the first phase.
        exploit: The ask rule of the second.
        find_labels: Labels that a replicate hears in the first phase, at least 0.
    """

    find: str = "deviation"
    exploit: str = "best_worst"
    find_labels: int = 60

    def __post_init__(self) -> None:
        checks.integer("find_labels", self.find_labels, low=0)
        for name in (self.find, self.exploit):
            if name == _NAME:
                raise UserError(f"ask rule {_NAME!r} cannot be one of its own phases; name another")


def two_phases(resources: AskResources, settings: SettingsReader) -> Select:
    """Follow one rule for the first labels of a replicate, another after them."""
    chosen = settings.take(PhaseSettings)
    rules, ranks, draws = [], [], []
    for name in (chosen.find, chosen.exploit):
        resources.ranks = resources.duel_is_draw = False
        rules.append(ASK[name](resources, settings))
        ranks.append(resources.ranks)
        draws.append(resources.duel_is_draw)
    resources.ranks, resources.duel_is_draw = all(ranks), all(draws)
    batch = resources.view.batch

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        # Both are asked in every round: a row's draws are then its own, whatever phase another replicate is in.
        first, second = (Ranked.of(rule(observation, groups)) for rule in rules)
        finding = np.repeat(resources.labels < chosen.find_labels, batch)
        pairs = np.where(finding[:, np.newaxis], first.pairs, second.pairs)
        if first.worth is None or second.worth is None:
            return Ranked(pairs)
        return Ranked(pairs, np.where(finding, first.worth, second.worth))

    return select
