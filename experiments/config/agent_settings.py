"""What an agent reads of its settings, and its own defaults: found by making it, so that no list grows stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from duelenv.agents.asking import AskSettings
from duelenv.agents.base import AGENTS, SettingsReader
from duelenv.core import AgentView

__all__ = ["rows_asked", "settings_read"]

Settings = TypeVar("Settings")


class _Recorder(SettingsReader):
    """Writes down what is read."""

    def __init__(self, owner: str, values: Mapping[str, Any]) -> None:
        super().__init__(owner, values)
        self.read: list[Any] = []

    def take(self, kind: type[Settings], /, **others: Any) -> Settings:
        taken = super().take(kind, **others)
        self.read.append(taken)
        return taken


def settings_read(name: str, view: AgentView, seed: int, settings: Mapping[str, Any]) -> list[Any]:
    """Make an agent and list the settings dataclasses that its parts took, in the order in which they took them.

    Args:
        name: The agent's registered name.
        view: What it may know of its world.
        seed: Of the agent.
        settings: As given; what it reads besides are defaults, its own where it has some.

    Raises:
        UserError: It does not play in this world.
    """
    reader = _Recorder(name, settings)
    AGENTS[name](view, seed, reader)
    return reader.read


def rows_asked(name: str, view: AgentView, seed: int, settings: Mapping[str, Any]) -> int:
    """Count the rows in which an agent asks at most in a round, of each replicate.

    Those of its `asked` where it reads one; all of them where it does not, where rows ask by chance, and where every
    row is asked anyway. The arguments are those of `settings_read`.
    """
    if not view.selective:
        return view.batch
    read = settings_read(name, view, seed, settings)
    counts = [one.asked for one in read if isinstance(one, AskSettings) and one.asked is not None]
    return counts[0] if counts else view.batch
