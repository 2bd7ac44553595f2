"""What an ask rule is and what it may use; no rule is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.roles import Listener, Select
from duelenv.core import AgentView
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams
from duelenv.ground.registry import Registry

#: Draws of a belief where two of them may name the same text.
DRAWS: Final = 20
#: Where deviations are taken over draws: each is then off by 7 %.
MANY_DRAWS: Final = 100


@dataclass(frozen=True)
class DrawSettings:
    """How many draws of the belief a round looks at.

    Attributes:
        num_samples: At least 2; None takes what the rule needs: 2 for `thompson` in worlds where the two favourites may
            coincide, 20 or 100 elsewhere.
    """

    num_samples: int | None = None

    def __post_init__(self) -> None:
        if self.num_samples is not None:
            checks.integer("num_samples", self.num_samples, low=2)


class AskResources:
    """What an ask rule may use.

    Args:
        view: What the agent may know of its environment.
        streams: One per row, of the agent's own.
        make_belief: Makes the agent's belief.
        seed: Root of what a rule draws once.

    Attributes:
        view: As given.
        streams: As given.
        seed: As given.
        listeners: Parts of the rule that hear of labels, by name; see `listen`.
        labels: Labels that each replicate has heard, int64 [R]; the agent counts them.
        duel_is_draw: Set by a rule whose every duel sets a candidate against one of the reference, drawn uniformly from
            those with another text where there are any: see `duelenv.agents.reference_draws`.
        ranks: Set by a rule that says what each row's duel is worth, see `duelenv.agents.roles.Ranked`.
    """

    def __init__(self, view: AgentView, streams: RowStreams, make_belief: Callable[[], Belief], seed: int = 0) -> None:
        self.view = view
        self.streams = streams
        self.seed = seed
        self.listeners: dict[str, Listener] = {}
        self.labels: NDArray[np.int64] = np.zeros(view.replicates, np.int64)
        self.duel_is_draw = False
        self.ranks = False
        self._make_belief = make_belief
        self._draws: DrawSettings | None = None

    @cached_property
    def belief(self) -> Belief:
        """What is known of the utility, made when it is first asked for; an agent that never does may hold none."""
        return self._make_belief()

    @property
    def holds_belief(self) -> bool:
        """Whether anybody asked for it."""
        return "belief" in self.__dict__

    def listen(self, name: str, listener: Listener) -> None:
        """Let a part of the rule hear of every label, before anything is learnt from it, and have its state kept."""
        self.listeners[name] = listener

    def num_samples(self, settings: SettingsReader, default: int) -> int:
        """Return how many draws of the belief a rule looks at; rules of one agent share the setting."""
        if self._draws is None:
            self._draws = settings.take(DrawSettings, yields=("num_samples",))
        return self._draws.num_samples or default


class AskRule(Protocol):
    """Makes a choice of pairs for an agent."""

    def __call__(self, resources: AskResources, settings: SettingsReader) -> Select: ...


def _lie_in(room: str, *names: str) -> dict[str, AskRule | str]:
    return {name: f"duelenv.agents.asking.{room}:{name}" for name in names}


#: By name; those of the project are loaded when they are asked for, since some stand on the rules of the linear world.
ASK: Registry[AskRule] = Registry(
    "ask rule",
    {"random": "duelenv.agents.asking.plain:at_random"}
    | _lie_in("favourites", "thompson", "best_arm", "best_worst", "reversed_thompson", "extreme", "best_of_n")
    | _lie_in("informative", "infomax", "information", "deviation", "ids", "vids", "decisive")
    | _lie_in("optimistic", "deltaucb", "maxminlcb", "maxinp", "optimistic")
    | _lie_in("plain", "dissimilar", "against_reference", "against_recorded")
    | _lie_in("of_policy", "implicit_gap", "gradient_distance", "pilaf", "offline")
    | _lie_in("phases", "two_phases"),
)
