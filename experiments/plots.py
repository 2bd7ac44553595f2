"""The figures of a run: metric against labels, win rate against KL, cumulative regret. No numbers are made here.

The baseline is always there, in grey. Lines carry their names at their ends. Bands are 95 % t-intervals over seeds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments import checkpoints, regret_plots
from duelenv.experiments.drawing import (
    DARK,
    LIGHT,
    Look,
    Name,
    Theme,
    agent_name,
    empty_figure,
    footnote,
    looks_of,
    matplotlib_settings,
    name_lines,
    name_points,
    thousands,
)
from duelenv.experiments.regret import Group, group_agents
from duelenv.experiments.results import Results, label_of
from duelenv.experiments.statistics import band, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Theme", "draw", "save_figures"]


def _curves(results: Results, agent: str, metric: str, rate: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels [T] and values [S, T] at the steps where every seed has a value.

    With `rate`, the values are what each label added since the evaluation before.
    """
    _, labels = results.curve(agent, "queries")
    _, values = results.curve(agent, metric)
    known = ~np.isnan(values).any(axis=0)
    labels, values = labels[:, known], values[:, known]
    if not rate:
        return labels.mean(axis=0), values
    bought = np.diff(labels, axis=1)
    some = (bought > 0).all(axis=0)
    return labels.mean(axis=0)[1:][some], (np.diff(values, axis=1)[:, some] / bought[:, some])


def metric_against_labels(results: Results, metric: str, theme: Theme = LIGHT, *, rate: bool = False) -> Figure:
    """A metric against the number of labels, mean and band over seeds.

    Args:
        results: The run.
        metric: A column.
        theme: Colours.
        rate: Show what each label adds, for a column that sums up.
    """
    with matplotlib_settings(theme):
        looks = looks_of(results, theme)
        groups = group_agents(results)
        references = _references(results) if metric == "simple_regret" else {}
        largest = max(groups, key=lambda group: len(group.agents))
        figure, panels = empty_figure(
            [(name, looks[agent]) for agent, name in zip(largest.agents, largest.names, strict=True)],
            panels=len(groups),
            further=list(references),
        )
        for axes, group in zip(panels, groups, strict=True):
            _draw_metric(axes, results, group, metric, looks, references, theme, rate)
        footnote(figure, results, theme)
    return figure


def _draw_metric(
    axes: Axes,
    results: Results,
    group: Group,
    metric: str,
    looks: Mapping[str, Look],
    references: Mapping[str, float],
    theme: Theme,
    rate: bool,
) -> None:
    """One panel of `metric_against_labels`."""
    ends: list[Name] = []
    for agent, name in sorted(zip(group.agents, group.names, strict=True), key=lambda pair: looks[pair[0]].leads):
        labels, values = _curves(results, agent, metric, rate)
        if labels.size == 0:
            continue
        look = looks[agent]
        mean, low, high = band(values)
        if look.leads:
            axes.fill_between(labels, low, high, color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(labels, mean, color=look.colour, linestyle=look.style, linewidth=look.width, solid_capstyle="round")
        ends.append(agent_name(name, float(labels[-1]), float(mean[-1]), look))
    for height in references.values():
        axes.axhline(height, color=theme.baseline, linewidth=1.0, linestyle=(0, (1, 2)))
    if metric == "win_rate":
        axes.axhline(0.5, color=theme.text, linewidth=0.8, alpha=0.6)
    axes.margins(x=0)
    right = axes.get_xlim()[1]
    ends += [Name(name, right, height, theme.baseline, size=9, bold=False) for name, height in references.items()]
    # Nothing lies below zero but the regret against a comparator that was overtaken.
    if not rate and metric.startswith("regret_") and axes.get_ylim()[0] > -0.1 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("labels (oracle queries)")
    axes.set_ylabel(_rate_of(metric) if rate else label_of(metric, unit=True))
    axes.set_title(group.title or (_rate_of(metric).capitalize() if rate else _title(metric)))
    thousands(axes, "x")
    thousands(axes, "y")
    name_lines(axes, ends)


def win_rate_against_kl(results: Results, theme: Theme = LIGHT) -> Figure:
    """Win rate against KL to the start policy: what an agent pays for what it gains, a path in time."""
    with matplotlib_settings(theme):
        looks = looks_of(results, theme)
        figure, (axes,) = empty_figure([(agent, looks[agent]) for agent in results.agents])
        ends = []
        for agent in results.agents:
            _, rates = results.curve(agent, "win_rate")
            _, divergences = results.curve(agent, "kl")
            known = ~(np.isnan(rates) | np.isnan(divergences)).any(axis=0)
            if not known.any():
                continue
            x, y = divergences[:, known].mean(axis=0), rates[:, known].mean(axis=0)
            look = looks[agent]
            colour = look.colour
            axes.plot(x, y, color=colour, linestyle=look.style, linewidth=look.width, alpha=0.9)
            across, up = mean_interval(divergences[:, known][:, -1]), mean_interval(rates[:, known][:, -1])
            bars: dict[str, Any] = {} if across.seeds < 2 else {"xerr": across.half_width, "yerr": up.half_width}
            axes.errorbar(x[-1:], y[-1:], **bars, color=colour, marker="o", markersize=5, elinewidth=1.0, capsize=0)
            ends.append((agent, float(x[-1]), float(y[-1]), colour))
        axes.axhline(0.5, color=theme.text, linewidth=0.8, alpha=0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("KL(policy || start) per response (nats)")
        axes.set_ylabel("win rate")
        axes.set_title("What the win rate costs in KL to the start policy")
        thousands(axes, "x")
        thousands(axes, "y")
        name_points(axes, ends, theme)
        footnote(figure, results, theme, "means; bars at the end: ")
    return figure


def _references(results: Results) -> dict[str, float]:
    """Mean simple regret of the rules that learn nothing, by the name they have in a figure."""
    return {
        name.replace("_", " "): mean_interval(list(by_seed.values())).mean
        for name, by_seed in results.references.items()
    }


def _title(metric: str) -> str:
    titles = {
        "win_rate": "Win rate against the start policy",
        "win_rate_best_of_n": "Win rate of the recommended candidate",
        "simple_regret": "Simple regret of the recommended candidate",
    }
    if metric.startswith("regret_"):
        return f"Cumulative regret ({metric.removeprefix('regret_')})"
    return titles.get(metric, label_of(metric).capitalize())


def _rate_of(metric: str) -> str:
    return f"{metric.removeprefix('regret_')} regret per label"


def draw(results: Results, theme: Theme = LIGHT) -> dict[str, Figure]:
    """All figures that the run's metrics allow, by name."""
    figures: dict[str, Figure] = {}
    exact = results.regret is not None and results.config.replicated
    if exact and results.primary == results.regret:
        figures |= regret_plots.draw_regret(results, theme)
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
        figures |= {} if results.regret in figures else regret_plots.draw_regret(results, theme)
    elif results.regret is not None:
        # A policy's best response is far away: every line of a sum would look straight.
        figures[results.regret] = metric_against_labels(results, results.regret, theme, rate=True)
    return figures


def as_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as a file of kind "svg" or "png", the same bytes for the same figure."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "duelenv"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
    return stream.getvalue()


def save_figures(results: Results) -> list[Path]:
    """Writes every figure as PNG and SVG into the run's `figures` folder.

    Returns:
        The files.
    """
    paths = []
    for name, figure in draw(results).items():
        for kind in ("png", "svg"):
            path = results.directory / "figures" / f"{name}.{kind}"
            with checkpoints.atomic(path) as stream:
                stream.write(as_bytes(figure, kind))
            paths.append(path)
    return paths
