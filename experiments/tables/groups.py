"""Which agents of a run are compared with each other: those that met the same world. Agents of two pools never are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import AgentConfig, same_agent
from duelenv.experiments.results.measurements import Results

__all__ = ["Group", "group_agents"]


@dataclass(frozen=True)
class Group:
    """Agents that met the same world."""

    title: str
    """What sets this world apart from the other groups', such as "dim = 15"; empty where there is one group."""
    agents: tuple[str, ...]
    """Their labels, in the config's order."""
    names: tuple[str, ...]
    """The labels without the ending that all of them share."""
    baseline: str
    """Label of the agent that the others are compared to; it may have no results yet."""

    def name_of(self, agent: str) -> str:
        """Name one of its agents, or its baseline, as this group does."""
        if agent in self.agents:
            return self.names[self.agents.index(agent)]
        return agent


def group_agents(results: Results) -> list[Group]:
    """Group the agents by the world they met, in the config's order; in one group unless worlds have own baselines.

    Where agents have worlds of their own besides a pool, they are grouped by the pool alone.
    """
    config = results.config
    by_world = _labels_by(config, lambda agent: repr(sorted(agent.env.items())))
    if not _each_has_baseline(config, by_world):
        by_world = _labels_by(config, lambda agent: repr(agent.env.get("data")))
    if len(by_world) == 1:
        present = tuple(results.agents)
        return [Group("", present, present, config.baseline)]
    groups = []
    for labels in by_world:
        present = tuple(label for label in labels if label in results.agents)
        if not present:
            continue
        ending = _shared_ending(labels)
        own_settings = config.agent(labels[0]).env
        plain = own_settings and all(isinstance(value, str | int | float) for value in own_settings.values())
        title = ", ".join(f"{key} = {value}" for key, value in own_settings.items()) if plain else ending[1:]
        names = tuple(label.removesuffix(ending) for label in present)
        groups.append(Group(title or _pool_name(config, labels[0]), present, names, _baselines(config, labels)[0]))
    return groups


def _labels_by(config: RunConfig, world: Callable[[AgentConfig], str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for agent in config.agents:
        found.setdefault(world(agent), []).append(agent.label)
    return list(found.values())


def _baselines(config: RunConfig, labels: Sequence[str]) -> list[str]:
    """Find those that are the baseline's agent with its settings."""
    reference = config.agent(config.baseline)
    return [label for label in labels if same_agent(config.agent(label), reference)]


def _each_has_baseline(config: RunConfig, by_world: Sequence[Sequence[str]]) -> bool:
    return all(_baselines(config, labels) for labels in by_world)


def _pool_name(config: RunConfig, label: str) -> str:
    data = config.for_agent(label).data
    return "" if data is None else Path(data["path"]).name


def _shared_ending(labels: Sequence[str]) -> str:
    """Find the ending "-d10" of labels that all have it; empty for a single label."""
    if len(labels) < 2:
        return ""
    words = [label.split("-") for label in labels]
    shared = 0
    while all(len(each) > shared + 1 and each[-1 - shared] == words[0][-1 - shared] for each in words):
        shared += 1
    return "".join(f"-{word}" for word in words[0][len(words[0]) - shared :])
