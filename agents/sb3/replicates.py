"""Several hidden truths, one learner for each: what learns a single truth plays many seeds at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics, merged
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground.randomness import stream


class OneForEach(Agent):
    """An agent for each replicate, which sees its rows alone; the first one is the agent of a world of one replicate.

    Args:
        view: What may be known of the environment: several replicates.
        seed: Root of the agents' streams.
        make: Makes the agent of one replicate, from its view and its seed.
    """

    def __init__(self, view: AgentView, seed: int, make: Callable[[AgentView, int], Agent]) -> None:
        super().__init__(view)
        own = replace(view, num_envs=view.batch)
        roots = [seed, *(int(stream(seed, "agents/sb3/replicate", row).integers(2**32)) for row in self._others)]
        self._agents = [make(own, root) for root in roots]

    @property
    def _others(self) -> range:
        return range(1, self.view.replicates)

    def _parts(self, observation: Observation) -> list[Observation]:
        """Find what each agent sees."""
        shown = {name: np.asarray(observation[name]) for name in ("features", "responses") if name in observation}
        rows, batch = len(shown["features"]), self.view.batch
        return [{name: each[at : at + batch] for name, each in shown.items()} for at in range(0, rows, batch)]

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        parts = zip(self._agents, self._parts(observation), strict=True)
        return np.concatenate([agent._act(part) for agent, part in parts])

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        count = self.view.replicates
        played, told = np.split(actions, count), np.split(labels, count)
        figures = merged(
            [
                agent._update(part, played[number], told[number])
                for number, (agent, part) in enumerate(zip(self._agents, self._parts(observation), strict=True))
            ]
        )
        self.gradient_steps = max(agent.gradient_steps for agent in self._agents)
        return figures

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        parts = zip(self._agents, self._parts(observation), strict=True)
        return np.concatenate([agent._recommend(part) for agent, part in parts])

    def state_dict(self) -> dict[str, Any]:
        return {str(number): agent.state_dict() for number, agent in enumerate(self._agents)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for number, agent in enumerate(self._agents):
            agent.load_state_dict(state[str(number)])
        self.gradient_steps = max(agent.gradient_steps for agent in self._agents)
