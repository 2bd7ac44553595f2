"""Where agents stand in a group of worlds, and how one of them compares with all others.

Only agents that played all of a group's worlds have a rank and an interquartile mean there: means over different worlds
say nothing about each other. A world without a scale, as where its floor was not played yet, counts for nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.leaderboard.playing import control_of
from duelenv.experiments.leaderboard.scores import Estimate, Scale, iqm_interval, mean_ranks
from duelenv.experiments.leaderboard.stored import Table
from duelenv.experiments.leaderboard.worlds import Group, World
from duelenv.experiments.tables.statistics import Interval, corrected, paired_difference

__all__ = ["Comparison", "Line", "Standings", "comparisons", "scale_of", "standings"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """An agent in a group.

    Attributes:
        agent: Its name.
        scores: Mean score by name of the world, of those that it played and that have a scale.
        refused: Why it does not fit, by name of the world.
        iqm: Over all runs; None where it did not play every world.
        rank: Mean over worlds; None as before.
        behind: Its mean score less that of the first agent, paired by seed, corrected for all of the group; None for
            the first, and as before.
    """

    agent: str
    scores: Mapping[str, float]
    refused: Mapping[str, str]
    iqm: Estimate | None = None
    rank: Estimate | None = None
    behind: Interval | None = None

    @property
    def leads(self) -> bool:
        """Whether it is the first, or not shown to be behind it; the mean of who stands lower by IQM may be larger."""
        if self.iqm is None:
            return False
        return self.behind is None or self.behind.mean > 0 or not self.behind.shows_difference


@dataclass(frozen=True)
class Standings:
    """A group.

    Attributes:
        group: What was asked.
        worlds: Of the chosen set.
        scales: By name of the world, where there is one.
        lines: Those with an interquartile mean first, the highest first; then the others by name.
    """

    group: Group
    worlds: tuple[World, ...]
    scales: Mapping[str, Scale]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Comparison:
    """One agent against another in a group.

    Attributes:
        group: Its name.
        rival: The other agent.
        difference: Of mean scores, paired by seed, corrected for all comparisons that are made with it.
    """

    group: str
    rival: str
    difference: Interval


def scale_of(table: Table, world: World) -> Scale | None:
    """Say what a world's figures are measured by, or None where an agent that it hangs on was not played."""
    floor, ceiling = _mean(table, world.floor, world), world.ceiling.value
    control = control_of(world)
    if control is not None:
        ceiling = _mean(table, control.name, world)
    if floor is None or ceiling is None:
        return None
    scale = Scale(floor, ceiling)
    return scale if scale.usable else None


def standings(table: Table, group: Group, worlds: Sequence[World]) -> Standings:
    """Say where agents stand.

    Args:
        table: What was measured.
        group: The group.
        worlds: Of the group, those that count.
    """
    scales = {world.name: scale for world in worlds if (scale := scale_of(table, world)) is not None}
    scored = [world for world in worlds if world.name in scales]
    controls = {control.name for world in worlds if (control := control_of(world)) is not None}
    scores = {
        agent: found
        for agent in table.agents
        if agent not in controls and (found := _scores(table, agent, worlds, scales)) is not None
    }
    complete = [agent for agent, found in scores.items() if scored and all(world.name in found for world in scored)]
    lines = {
        agent: Line(agent, {name: float(own.mean()) for name, own in found.items()}, _refused(table, agent, worlds))
        for agent, found in scores.items()
    }
    if complete:
        stacked = np.stack([[scores[agent][world.name] for world in scored] for agent in complete])
        found_ranks = mean_ranks(stacked)
        means = [iqm_interval(one) for one in stacked]
        order = sorted(range(len(complete)), key=lambda place: (-means[place].value, complete[place]))
        first = order[0]
        behind = corrected(
            [None if place == first else _difference(stacked[place], stacked[first]) for place in range(len(complete))]
        )
        for place in order:
            agent = complete[place]
            line = lines.pop(agent)
            ranked = Line(agent, line.scores, line.refused, means[place], found_ranks[place], behind[place])
            lines[agent] = ranked
    first_lines = [line for line in lines.values() if line.iqm is not None]
    others = sorted((line for line in lines.values() if line.iqm is None), key=lambda line: line.agent)
    return Standings(group, tuple(worlds), scales, (*first_lines, *others))


def comparisons(table: Table, agent: str, groups: Sequence[Standings]) -> list[Comparison]:
    """Compare an agent with every other that played the same worlds.

    Args:
        table: What was measured.
        agent: Its name.
        groups: Where agents stand; those in which it has no interquartile mean are passed over.

    Returns:
        By group and by the difference, the rival that is furthest behind first. All of them are one family.
    """
    found: list[tuple[str, str, Interval]] = []
    for one in groups:
        scored = [world for world in one.worlds if world.name in one.scales]
        whole = [line.agent for line in one.lines if line.iqm is not None]
        if agent not in whole:
            continue
        own = _scores(table, agent, scored, one.scales)
        assert own is not None
        mine = np.stack([own[world.name] for world in scored])
        against: list[tuple[str, str, Interval]] = []
        for rival in whole:
            theirs = _scores(table, rival, scored, one.scales)
            if rival != agent and theirs is not None:
                stacked = np.stack([theirs[world.name] for world in scored])
                against.append((one.group.name, rival, _difference(mine, stacked)))
        found += sorted(against, key=lambda row: -row[2].mean)
    shown = corrected([difference for _, _, difference in found])
    return [
        Comparison(group, rival, difference)
        for (group, rival, _), difference in zip(found, shown, strict=True)
        if difference is not None
    ]


def _difference(one: Array, other: Array) -> Interval:
    """Of mean scores over worlds, [W, S] each, paired by seed: a seed is one number, its mean over worlds."""
    means = [dict(enumerate(scores.mean(axis=0).tolist())) for scores in (one, other)]
    return paired_difference(means[0], means[1])


def _scores(table: Table, agent: str, worlds: Sequence[World], scales: Mapping[str, Scale]) -> dict[str, Array] | None:
    """Scores by name of the world; None where the agent has no row with values in any of the group's worlds."""
    found: dict[str, Array] = {}
    played = False
    for world in worlds:
        row = table.of(agent, world.name)
        # A row of other seeds cannot be paired.
        if row is not None and len(row.values) == world.seeds and row.first_seed == world.first_seed:
            played = True
            if world.name in scales:
                found[world.name] = scales[world.name].scores(row.values)
    return found if played else None


def _refused(table: Table, agent: str, worlds: Sequence[World]) -> dict[str, str]:
    rows = [(world.name, table.of(agent, world.name)) for world in worlds]
    return {name: row.refused for name, row in rows if row is not None and row.refused is not None}


def _mean(table: Table, agent: str, world: World) -> float | None:
    row = table.of(agent, world.name)
    return None if row is None or not row.values else float(np.mean(row.values))
