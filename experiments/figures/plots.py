"""The figures of a run: metric against labels, win rate against KL, cumulative regret. No numbers are made here.

The baseline is always there, in grey. Lines carry their names at their ends. Bands are 95 % t-intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.figures.forest_plot import draw_forests
from duelenv.experiments.figures.name_placement import Box, Name, agent_name, name_lines, name_points
from duelenv.experiments.figures.panels import (
    Panel,
    as_bytes,
    draw_band,
    empty_figure,
    entitle,
    footnote,
    matplotlib_settings,
    plain,
    start_at_zero,
    thousands,
    world_panels,
)
from duelenv.experiments.figures.regret_plots import draw_regret
from duelenv.experiments.figures.styles import LIGHT, Theme, looks_of
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of, title_of
from duelenv.experiments.tables.groups import Group, group_agents
from duelenv.experiments.tables.statistics import band, mean_interval
from duelenv.experiments.tables.text_table import TextTable
from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "draw_curves", "metric_against_labels", "save_figures", "win_rate_against_kl"]

#: Where neither better nor worse is: as good as the start policy, as sure as it is right.
_NEUTRAL: Final = {"win_rate": 0.5, "belief_calibration": 1.0, "belief_calibration_off": 1.0}


def _curves(
    results: Results, agent: str, metric: str, rate: bool, x: str = "queries"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of `x` [T] and values [S, T] at the steps where every seed has a value, of the seeds that have any.

    With `rate`, the values are what each label added since the evaluation before.
    """
    _, labels = results.curve(agent, x)
    _, values = results.curve(agent, metric)
    some = ~np.isnan(values).all(axis=1)  # one figure of a whole cell stands beside its first seed alone
    if not some.any():
        return np.empty(0), values[:, :0]
    labels, values = labels[some], values[some]
    known = ~(np.isnan(values) | np.isnan(labels)).any(axis=0)
    labels, values = labels[:, known], values[:, known]
    if not rate:
        return labels.mean(axis=0), values
    bought = np.diff(labels, axis=1)
    more = (bought > 0).all(axis=0)
    return labels.mean(axis=0)[1:][more], (np.diff(values, axis=1)[:, more] / bought[:, more])


def metric_against_labels(
    results: Results, metric: str, theme: Theme = LIGHT, *, rate: bool = False, x: str = "queries"
) -> Figure:
    """Draw a metric against the number of labels, mean and band over seeds.

    Args:
        results: The run.
        metric: A column.
        theme: Colours.
        rate: Show what each label adds, for a column that sums up.
        x: The column along the axis in place of the labels; means over seeds.
    """

    def references(group: Group) -> dict[str, float]:
        return _references(results, group) if metric == "simple_regret" else {}

    with matplotlib_settings(theme):
        figure, panels = world_panels(results, theme, further=lambda group: list(references(group)))
        for panel in panels:
            _draw_metric(panel, results, metric, references(panel.group), rate, x)
        footnote(figure, results, theme, metric=metric)
    return figure


def draw_curves(axes: Axes, results: Results, metric: str, theme: Theme = LIGHT, *, x: str = "queries") -> None:
    """Draw what `metric_against_labels` does into axes of somebody's own.

    Raises:
        UserError: The agents met several worlds, which need a panel each.
    """
    groups = group_agents(results)
    if len(groups) > 1:
        raise UserError(
            f"The agents met {len(groups)} worlds, which need a panel each: leave 'ax' out, or name 'agents' of one"
        )
    with matplotlib_settings(theme):
        references = _references(results, groups[0]) if metric == "simple_regret" else {}
        _draw_metric(Panel(axes, groups[0], looks_of(results, theme), theme), results, metric, references, False, x)


def _draw_metric(
    panel: Panel, results: Results, metric: str, references: Mapping[str, float], rate: bool, x: str = "queries"
) -> None:
    """One panel of `metric_against_labels`."""
    axes, theme = panel.axes, panel.theme
    ends: list[Name] = []
    for agent, name, look in panel.agents():
        labels, values = _curves(results, agent, metric, rate, x)
        if labels.size == 0:
            continue
        mean, low, high = band(values)
        draw_band(axes, labels, mean, low, high, look)
        ends.append(agent_name(name, float(labels[-1]), float(mean[-1]), look))
    for height in references.values():
        axes.axhline(height, color=theme.baseline, linewidth=1.0, linestyle=(0, (1, 2)))
    if metric in _NEUTRAL:
        axes.axhline(_NEUTRAL[metric], color=theme.text, linewidth=0.8, alpha=0.6)
    axes.margins(x=0)
    right = axes.get_xlim()[1]
    ends += [Name(name, right, height, theme.baseline, size=9, bold=False) for name, height in references.items()]
    if not rate and metric.startswith("regret_"):
        start_at_zero(axes, axes.get_ylim()[0])
    entitle(
        axes,
        theme,
        title=plain(panel.group.title) or (_rate_of(metric).capitalize() if rate else title_of(metric)),
        x=label_of(x, unit=True),
        y=_rate_of(metric) if rate else label_of(metric, unit=True),
    )
    thousands(axes)
    name_lines(axes, ends, theme)


def win_rate_against_kl(results: Results, theme: Theme = LIGHT) -> Figure:
    """Draw win rate against KL to the start policy: what an agent pays for what it gains, a path in time."""
    with matplotlib_settings(theme):
        looks = looks_of(results, theme)
        names = [(agent, looks[agent]) for agent in results.agents]
        figure, (axes,) = empty_figure(names, narrow=theme.narrow)
        ends, bars = [], []
        for agent in results.agents:
            _, rates = results.curve(agent, "win_rate")
            _, divergences = results.curve(agent, "kl")
            known = ~(np.isnan(rates) | np.isnan(divergences)).any(axis=0)
            if not known.any():
                continue
            x, y = divergences[:, known].mean(axis=0), rates[:, known].mean(axis=0)
            look = looks[agent]
            axes.plot(x, y, color=look.colour, linestyle=look.style, linewidth=look.width, alpha=0.9)
            across, up = mean_interval(divergences[:, known][:, -1]), mean_interval(rates[:, known][:, -1])
            half = (across.half_width, up.half_width) if across.seeds > 1 else (0.0, 0.0)
            drawn: dict[str, Any] = {"xerr": half[0], "yerr": half[1]} if across.seeds > 1 else {}
            axes.errorbar(
                x[-1:], y[-1:], **drawn, color=look.colour, marker="o", markersize=5, elinewidth=1.0, capsize=0
            )
            ends.append(agent_name(agent, float(x[-1]), float(y[-1]), look))
            bars.append((float(x[-1]), float(y[-1]), *half))
        axes.axhline(0.5, color=theme.text, linewidth=0.8, alpha=0.6)
        axes.set_xlim(left=0)
        entitle(
            axes,
            theme,
            title="What the win rate costs in KL to the start policy",
            x="KL(policy || start) per response (nats)",
            y="win rate",
        )
        thousands(axes)
        name_points(axes, ends, theme, [box for bar in bars for box in _bar_boxes(axes, *bar)])
        footnote(figure, results, theme, "means; bars at the end: ")
    return figure


def _bar_boxes(axes: Axes, x: float, y: float, across: float, up: float) -> list[Box]:
    """Where a point and its two error bars are, in pixels."""
    axes.get_xlim()
    (left, low), (right, high) = axes.transData.transform([(x - across, y - up), (x + across, y + up)]).tolist()
    middle, centre = axes.transData.transform((x, y)).tolist()
    return [
        Box(min(left, middle - 4), centre - 4, max(right, middle + 4), centre + 4),
        Box(middle - 4, low, middle + 4, high),
    ]


def _references(results: Results, group: Group) -> dict[str, float]:
    """Mean simple regret of the rules that ask for no duel, by the name they have in a figure."""
    return {
        name.replace("_", " "): mean_interval(list(by_seed.values())).mean
        for name, by_seed in results.references(group.agents).items()
    }


def _rate_of(metric: str) -> str:
    return f"{metric.removeprefix('regret_')} regret per label"


def draw(results: Results, theme: Theme = LIGHT) -> dict[str, Figure]:
    """Draw all figures that the run's metrics allow, by name."""
    figures: dict[str, Figure] = {}
    exact = results.regret is not None and results.config.replicated
    if exact and results.primary == results.regret:
        figures |= draw_regret(results, theme)
        further: tuple[str, ...] = ("simple_regret",)
    else:
        figures[results.primary] = metric_against_labels(results, results.primary, theme)
        further = ("simple_regret", "win_rate_best_of_n")
    if results.has("win_rate") and results.has("kl"):
        figures["win_rate_against_kl"] = win_rate_against_kl(results, theme)
    for metric in further:
        if metric not in figures and results.has(metric) and not results.has("win_rate"):
            figures[metric] = metric_against_labels(results, metric, theme)
    if exact:
        figures |= {} if results.regret in figures else draw_regret(results, theme)
    elif results.regret is not None:
        # A policy's best response is far away: every line of a sum would look straight.
        figures[results.regret] = metric_against_labels(results, results.regret, theme, rate=True)
    for metric in ("belief_calibration", "informative_duels"):
        if metric not in figures and results.has(metric):
            figures[metric] = metric_against_labels(results, metric, theme)
    return figures


def save_figures(results: Results, tables: Sequence[TextTable] = ()) -> list[Path]:
    """Write every figure as PNG and SVG into the run's `figures` folder.

    Args:
        results: The run.
        tables: As `duelenv.experiments.tables.regret.tables` makes them, for the forest plot of the first.

    Returns:
        The files.
    """
    paths = []
    folder = RunFolder(results.directory)
    # Figures have the names of columns, which `Results` has checked, as it has that no link leads out of the folder.
    every = draw(results) | (draw_forests(results, tables) if tables else {})
    for name, figure in every.items():
        for kind in ("png", "svg"):
            path = folder.figure(name, kind)
            with files.atomic(path) as stream:
                stream.write(as_bytes(figure, kind))
            paths.append(path)
    return paths
