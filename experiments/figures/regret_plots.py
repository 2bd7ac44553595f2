"""The two figures of cumulative regret: against duels with bands, and in log-log view with slopes and bounds.

For worlds without a policy, where regret is exact. One panel per variant of the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from duelenv.experiments.figures.name_placement import Name, agent_name, name_lines
from duelenv.experiments.figures.panels import (
    Panel,
    draw_band,
    entitle,
    footnote,
    log_numbers,
    matplotlib_settings,
    plain,
    start_at_zero,
    thousands,
    world_panels,
)
from duelenv.experiments.figures.styles import MANY, Theme
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of, title_of
from duelenv.experiments.tables.groups import Group
from duelenv.experiments.tables.regret import bounds_of, duels
from duelenv.experiments.tables.statistics import band, log_log_slope
from duelenv.experiments.tables.text_table import fixed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_regret"]

#: With many agents, the linear view ends at this multiple of the largest regret among the leading ones.
_HEADROOM = 1.15


def draw_regret(results: Results, theme: Theme) -> dict[str, Figure]:
    """Draw both figures by name, `regret_NOTION` and `regret_NOTION_loglog`."""
    metric = results.regret
    assert metric is not None
    return {
        metric: _figure(results, metric, theme, log=False),
        f"{metric}_loglog": _figure(results, metric, theme, log=True),
    }


def _figure(results: Results, metric: str, theme: Theme, *, log: bool) -> Figure:
    def bound_names(group: Group) -> list[str]:
        return [bound.name for bound in bounds_of(results, group)] if log else []

    with matplotlib_settings(theme):
        figure, panels = world_panels(results, theme, suffix=" 0.00" if log else " ↑", further=bound_names)
        for panel in panels:
            (_log_log if log else _linear)(panel, results, metric)
        footnote(figure, results, theme, "slopes of the last half; mean and " if log else "mean and ")
    return figure


def _entitle(panel: Panel, metric: str, title: str) -> None:
    entitle(
        panel.axes,
        panel.theme,
        title=plain(panel.group.title) or title,
        x="duels of a replicate",
        y=label_of(metric),
    )


def _linear(panel: Panel, results: Results, metric: str) -> None:
    axes, group, looks = panel.axes, panel.group, panel.looks
    _entitle(panel, metric, title_of(metric))
    finals: dict[str, tuple[float, float]] = {}
    lowest = []
    for agent, _, look in panel.agents():
        t = duels(results, agent)
        mean, low, high = band(results.curve(agent, metric)[1])
        draw_band(axes, t, mean, low, high, look)
        finals[agent] = (float(t[-1]), float(mean[-1]))
        lowest.append(float(mean.min()))
    axes.margins(x=0)
    leading = [finals[agent][1] for agent in group.agents if looks[agent].leads and agent != group.baseline]
    if len(group.agents) > MANY and leading and max(leading) > 0:
        axes.set_ylim(top=min(_HEADROOM * max(leading), axes.get_ylim()[1]))
    start_at_zero(axes, min(lowest))
    thousands(axes)
    top = axes.get_ylim()[1]
    names = []
    # By regret: of the lines that leave the frame at its top, the names stand in that order.
    for agent, name in sorted(zip(group.agents, group.names, strict=True), key=lambda pair: finals[pair[0]][1]):
        x, y = finals[agent]
        text = name if y <= top else f"{name} ↑"
        names.append(agent_name(text, x, min(y, top), looks[agent]))
    name_lines(axes, names, panel.theme)


def _log_log(panel: Panel, results: Results, metric: str) -> None:
    axes, theme = panel.axes, panel.theme
    _entitle(panel, metric, f"{title_of(metric)}, with slopes")
    axes.set_xscale("log")
    axes.set_yscale("log")
    names: list[Name] = []
    lowest, highest, t = np.inf, 0.0, np.array([])
    for agent, name, look in panel.agents():
        t = duels(results, agent)
        steps, curves = results.curve(agent, metric)
        mean, low, high = band(curves)
        seen = (t > 0) & (mean > 0)
        if not seen.any():
            continue
        lowest, highest = min(lowest, float(mean[seen].min())), max(highest, float(mean[seen].max()))
        floor = np.maximum(low, 0.1 * mean)  # a logarithm has no place for 0
        draw_band(axes, t[seen], mean[seen], floor[seen], high[seen], look)
        slope = log_log_slope(steps, curves).slope
        text = name if np.isnan(slope) else f"{name} {fixed(slope, 2)}"
        names.append(agent_name(text, float(t[-1]), float(mean[-1]), look))
    t = t[t > 0]
    for bound in bounds_of(results, panel.group) if t.size else ():
        heights = bound.curve(t)
        shown = heights > 0  # c ln 1 = 0
        if not shown.any():
            continue
        axes.plot(t[shown], heights[shown], color=theme.text, linewidth=1.1, linestyle=(0, (1, 1.6)), alpha=0.8)
        names.append(
            Name(bound.name, float(t[-1]), float(heights[-1]), theme.text, size=9, bold=False, style=(0, (1, 1.6)))
        )
        lowest, highest = min(lowest, float(heights[shown].min())), max(highest, float(heights[-1]))
    if highest > 0:
        axes.set_ylim(0.8 * lowest, 1.3 * highest)
    if t.size > 1:
        axes.set_xlim(float(t[0]), float(t[-1]))
    log_numbers(axes)
    name_lines(axes, names, theme)
