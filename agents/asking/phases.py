"""Two ask rules one after the other: find what is unknown, then exploit what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        find: The ask rule of the first phase: its name, or a mapping of its `name` and settings. Settings beside the
            two phases count for both, where both have them.
        exploit: The ask rule of the second, likewise.
        find_labels: Labels that a replicate hears in the first phase, at least 0.
    """

    find: str | Mapping[str, Any] = "deviation"
    exploit: str | Mapping[str, Any] = "best_worst"
    find_labels: int = 60

    def __post_init__(self) -> None:
        checks.integer("find_labels", self.find_labels, low=0)
        for key in ("find", "exploit"):
            phase = getattr(self, key)
            if not isinstance(phase, str) and not (isinstance(phase, Mapping) and isinstance(phase.get("name"), str)):
                raise UserError(
                    f"{key} is {phase!r}, expected an ask rule; write its name, or a mapping of its name and settings, "
                    "such as {'name': 'deltaucb'}"
                )
        if _NAME in self.names:
            raise UserError(f"ask rule {_NAME!r} cannot be one of its own phases; name another")

    @property
    def names(self) -> tuple[str, str]:
        """Of the two rules."""
        find, exploit = (one if isinstance(one, str) else str(one["name"]) for one in (self.find, self.exploit))
        return find, exploit

    @property
    def own(self) -> tuple[dict[str, Any], ...]:
        """Settings of each phase alone."""
        return tuple(
            {} if isinstance(one, str) else {key: value for key, value in one.items() if key != "name"}
            for one in (self.find, self.exploit)
        )


def two_phases(resources: AskResources, settings: SettingsReader) -> Select:
    """Follow one rule for the first labels of a replicate, another after them."""
    chosen = settings.take(PhaseSettings)
    rules, ranks, draws = [], [], []
    readers = settings.apart(chosen.own)
    for name, reader in zip(chosen.names, readers, strict=True):
        resources.ranks = resources.duel_is_draw = False
        rules.append(ASK[name](resources, reader))
        ranks.append(resources.ranks)
        draws.append(resources.duel_is_draw)
    settings.rejoin(readers, chosen.own)
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
