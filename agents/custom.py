"""An agent composed by name: any ask rule with any belief, teaching rule, loss and bonus."""

from __future__ import annotations

from dataclasses import dataclass

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView
from duelenv.ground.errors import UserError


@dataclass(frozen=True)
class AskChoice:
    """Which two candidates duel.

    Attributes:
        ask: Name of an ask rule, one of `duelenv.agents.asking.ASK`.
    """

    ask: str = "random"

    def __post_init__(self) -> None:
        if not isinstance(self.ask, str):
            raise UserError(
                f"ask is {self.ask!r}, expected the name of an ask rule; write its settings beside it, as in "
                "{'ask': 'deviation', 'num_samples': 50}"
            )


@register("composed")
def composed(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build an agent of named parts."""
    ask = settings.take(AskChoice).ask
    return compose(view, seed, settings, name=f"composed/{ask}", ask=ask)
