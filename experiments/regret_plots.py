"""The two figures of cumulative regret: against duels with bands, and in log-log view with slopes and bounds.

For worlds without a policy, where regret is exact. One panel per variant of the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from duelenv.experiments.drawing import (
    MANY,
    Look,
    Name,
    Theme,
    agent_name,
    empty_figure,
    footnote,
    looks_of,
    matplotlib_settings,
    name_lines,
    thousands,
)
from duelenv.experiments.regret import Group, bounds_of, duels, group_agents
from duelenv.experiments.results import Results, fixed, label_of
from duelenv.experiments.statistics import band, log_log_slope

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_regret"]

#: With many agents, the linear view ends at this multiple of the largest regret among the leading ones.
_HEADROOM = 1.15


def draw_regret(results: Results, theme: Theme) -> dict[str, Figure]:
    """Both figures by name, `regret_NOTION` and `regret_NOTION_loglog`."""
    metric = results.regret
    assert metric is not None
    return {
        metric: _figure(results, metric, theme, log=False),
        f"{metric}_loglog": _figure(results, metric, theme, log=True),
    }


def _figure(results: Results, metric: str, theme: Theme, *, log: bool) -> Figure:
    with matplotlib_settings(theme):
        looks = looks_of(results, theme)
        groups = group_agents(results)
        largest = max(groups, key=lambda group: len(group.agents))
        figure, panels = empty_figure(
            [(f"{name} 0.00", looks[agent]) for agent, name in zip(largest.agents, largest.names, strict=True)],
            panels=len(groups),
            further=[bound.name for bound in bounds_of(results, largest)] if log else [],
        )
        for axes, group in zip(panels, groups, strict=True):
            (_log_log if log else _linear)(axes, results, group, metric, looks, theme)
            axes.set_xlabel("duels of a replicate")
            axes.set_ylabel(label_of(metric))
            notion = metric.removeprefix("regret_")
            title = f"Cumulative regret ({notion}){', with slopes' if log else ''}"
            axes.set_title(group.title or title)
        footnote(figure, results, theme, "slopes of the last half; mean and " if log else "mean and ")
    return figure


def _in_order(group: Group, looks: Mapping[str, Look]) -> list[tuple[str, str]]:
    """Labels and names, those that lead last, so that they are drawn on top."""
    return sorted(zip(group.agents, group.names, strict=True), key=lambda pair: looks[pair[0]].leads)


def _linear(axes: Axes, results: Results, group: Group, metric: str, looks: Mapping[str, Look], theme: Theme) -> None:
    finals: dict[str, tuple[float, float]] = {}
    lowest = []
    for agent, _ in _in_order(group, looks):
        look, t = looks[agent], duels(results, agent)
        mean, low, high = band(results.curve(agent, metric)[1])
        if look.leads:
            axes.fill_between(t, low, high, color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(t, mean, color=look.colour, linestyle=look.style, linewidth=look.width, solid_capstyle="round")
        finals[agent] = (float(t[-1]), float(mean[-1]))
        lowest.append(float(mean.min()))
    axes.margins(x=0)
    leading = [finals[agent][1] for agent in group.agents if looks[agent].leads and agent != group.baseline]
    if len(group.agents) > MANY and leading and max(leading) > 0:
        axes.set_ylim(top=min(_HEADROOM * max(leading), axes.get_ylim()[1]))
    # Nothing lies below zero but the regret against a comparator that was overtaken.
    if min(lowest) > -0.1 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0)
    thousands(axes, "x")
    thousands(axes, "y")
    top = axes.get_ylim()[1]
    names = []
    # By regret: of the lines that leave the frame at its top, the names stand in that order.
    for agent, name in sorted(zip(group.agents, group.names, strict=True), key=lambda pair: finals[pair[0]][1]):
        x, y = finals[agent]
        text = name if y <= top else f"{name} ↑"
        names.append(agent_name(text, x, min(y, top), looks[agent], joined=y <= top))
    name_lines(axes, names)


def _log_log(axes: Axes, results: Results, group: Group, metric: str, looks: Mapping[str, Look], theme: Theme) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    names: list[Name] = []
    lowest, highest, t = np.inf, 0.0, np.array([])
    for agent, name in _in_order(group, looks):
        look, t = looks[agent], duels(results, agent)
        steps, curves = results.curve(agent, metric)
        mean, low, high = band(curves)
        seen = (t > 0) & (mean > 0)
        if not seen.any():
            continue
        lowest, highest = min(lowest, float(mean[seen].min())), max(highest, float(mean[seen].max()))
        if look.leads:
            floor = np.maximum(low[seen], 0.1 * mean[seen])  # a logarithm has no place for 0
            axes.fill_between(t[seen], floor, high[seen], color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(
            t[seen], mean[seen], color=look.colour, linestyle=look.style, linewidth=look.width, solid_capstyle="round"
        )
        slope = log_log_slope(steps, curves).slope
        text = name if np.isnan(slope) else f"{name} {fixed(slope, 2)}"
        names.append(agent_name(text, float(t[-1]), float(mean[-1]), look))
    t = t[t > 0]
    for bound in bounds_of(results, group) if t.size else ():
        heights = bound.curve(t)
        shown = heights > 0  # c ln 1 = 0
        axes.plot(t[shown], heights[shown], color=theme.text, linewidth=1.1, linestyle=(0, (1, 1.6)), alpha=0.8)
        names.append(Name(bound.name, float(t[-1]), float(heights[-1]), theme.text, size=9, bold=False))
        lowest, highest = min(lowest, float(heights[shown].min())), max(highest, float(heights[-1]))
    if highest > 0:
        axes.set_ylim(0.8 * lowest, 1.3 * highest)
    if t.size > 1:
        axes.set_xlim(float(t[0]), float(t[-1]))
    name_lines(axes, names)
