"""Agents on a log: taught by its duels, asked what they recommend, or played on it by rejection (replay)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents import Agent
from duelenv.core import AgentView, Recommender
from duelenv.experiments.offline.estimators import Estimate, Settings, mean_estimate, weights
from duelenv.experiments.offline.log import DuelLog
from duelenv.ground.randomness import stream

__all__ = ["MakeAgent", "Replayed", "recommendations", "replay", "taught"]

MakeAgent = Callable[[AgentView, int], Agent]
"""Makes an agent for a view, of the replicate with this number."""


def taught(log: DuelLog, make: MakeAgent) -> dict[int, Agent]:
    """Return an agent for each replicate that has learnt from its logged duels, whoever chose them, in their order."""
    agents = {}
    for number, places in log.by_replicate():
        agent = agents[number] = make(log.view(), number)
        for place in places[~np.isnan(log.labels[places])]:
            agent.update(log.observation([place]), log.pairs[[place]], log.labels[[place]])
    return agents


def recommendations(log: DuelLog, agents: dict[int, Agent] | Recommender) -> NDArray[np.float64]:
    """Return the target pi [T, K] of agents that learn no more: 1 for the candidate that is recommended.

    Args:
        log: The rounds.
        agents: One for all, or one for each replicate by its number; whatever has `recommend`.
    """
    target = np.zeros(log.features.shape[:2])
    for number, places in log.by_replicate():
        agent = agents[number] if isinstance(agents, dict) else agents
        for place in places:
            target[place, int(np.asarray(agent.recommend(log.observation([place])))[0])] = 1.0
    return target


@dataclass(frozen=True)
class Replayed:
    """An agent that played a log by itself.

    Attributes:
        accepted: Rounds in which it wanted the two that had been played, and learnt.
        rounds: All rounds with a label.
        won: How often the first of its own pairs was preferred, over accepted rounds: what its labels would average to
            on-line, in as many rounds.
        value: V of what it recommended as it learnt, by IPS over all rounds: each recommendation is asked for before
            the round's label is told.
        agents: As they are at the end, by replicate.
    """

    accepted: int
    rounds: int
    won: Estimate
    value: Estimate
    agents: dict[int, Agent]


def replay(log: DuelLog, make: MakeAgent, settings: Settings | None = None) -> Replayed:
    """Play an agent on a log by rejection (Li, Chu, Langford and Wang 2011).

    A round counts where the agent chooses the two that were played, in either order, and is otherwise as if it had not
    been. Where the logging policy was uniform, what is left is a run of the agent on-line. Where propensities q vary, a
    round that fits counts with probability min(q) / q, the least over the log, so that the same holds (Dudik, Erhan,
    Langford and Li 2012): it costs rounds, and is exact only where the least propensity is in the log.
    A candidate against itself needs no log: where the agent chooses that, the round counts with probability min(q), as
    any other pair does, and the label is a fair coin. Without these an agent that plays them would learn faster on a
    log than on-line.

    Args:
        log: Rounds; those without a label are left out.
        make: Makes a fresh agent.
        settings: Of the intervals.
    """
    settings = settings or Settings()
    log = log.take(~np.isnan(log.labels))
    least = log.propensities[log.pairs[:, 0] != log.pairs[:, 1]].min(initial=1.0)
    coins = stream(settings.seed, "offline/replay").random((len(log), 2))
    won: list[float] = []
    target = np.zeros(log.features.shape[:2])
    agents = {}
    for number, places in log.by_replicate():
        agent = agents[number] = make(log.view(), number)
        for place in places:
            shown = log.observation([place])
            target[place, int(agent.recommend(shown)[0])] = 1.0
            chosen, played = agent.act(shown)[:, :2], log.pairs[[place]]
            label = log.labels[[place]]
            turned = bool((chosen == played[:, ::-1]).all())
            if chosen[0, 0] == chosen[0, 1]:
                chance, label = least, np.array([float(coins[place, 1] < 0.5)])
            elif turned or (chosen == played).all():
                chance = least / log.propensities[place]
            else:
                continue
            if coins[place, 0] >= chance:
                continue
            label = 1.0 - label if turned else label
            agent.update(shown, chosen, label)
            won.append(float(label[0]))
    first, second = weights(log, target)
    whole = first + second
    value = first * log.labels + second * (1.0 - log.labels)
    effective = float(whole.sum() ** 2 / (whole**2).sum()) if whole.any() else 0.0
    return Replayed(
        accepted=len(won),
        rounds=len(log),
        won=mean_estimate("replay, labels", np.array(won), settings),
        value=mean_estimate("replay, recommended", value, settings, effective),
        agents=agents,
    )
