"""The figures of a study: screened cells as a heat map of ask and teach, labels to target with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from duelenv.experiments.efficiency.stages import Table
from duelenv.experiments.efficiency.study import COMPOSED, NOTHING_ELSE, PASSIVE, Study
from duelenv.experiments.figures.panels import as_bytes, matplotlib_settings
from duelenv.experiments.figures.styles import LIGHT, Theme
from duelenv.experiments.folder import files
from duelenv.experiments.results.metrics import label_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map", "labels_to_target", "save_pictures"]

#: What the baseline asks, and what it teaches besides the labels.
_BASELINE = ("random", NOTHING_ELSE)
#: Panels that stand beside each other.
_PANELS = 3
#: Ratios of labels at which colours end: an eighth and eight times as many.
_FULL = math.log(8.0)


def heat_map(study: Study, table: Table, carried: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """Draw the ratio of labels to those of `passive` for every pair of ask and teach that was screened.

    What was only screened is grey text in brackets: the best of a dozen equal arms looks good by chance. Cells that
    were carried on are framed.

    Args:
        study: The study.
        table: A screening.
        carried: Labels of the cells that were carried on.
        theme: Colours.
    """
    cells = [cell for cell in study.in_regime(table.regime) if cell.name in table.comparisons]
    asks = list(dict.fromkeys(_asks(cell.agent, cell.ask, bool(cell.env)) for cell in cells))
    teaches = list(dict.fromkeys(str(cell.teach.get("teach", NOTHING_ELSE)) for cell in cells))
    values = np.full((len(asks), len(teaches)), np.nan)
    with matplotlib_settings(theme):
        figure = _figure(3.5 + 1.6 * len(teaches), 1.8 + 0.5 * len(asks))
        axes = figure.subplots()
        axes.grid(False)
        for cell in cells:
            row = asks.index(_asks(cell.agent, cell.ask, bool(cell.env)))
            column = teaches.index(str(cell.teach.get("teach", NOTHING_ELSE)))
            ratio = table.comparisons[cell.name].log_ratio.value
            if not (values[row, column] <= ratio):  # of several settings of the same rules, the one of fewest labels
                values[row, column] = ratio
        image = axes.imshow(np.clip(values, -_FULL, _FULL), cmap="RdBu_r", vmin=-_FULL, vmax=_FULL, aspect="auto")
        for cell in cells:
            row = asks.index(_asks(cell.agent, cell.ask, bool(cell.env)))
            column = teaches.index(str(cell.teach.get("teach", NOTHING_ELSE)))
            if table.comparisons[cell.name].log_ratio.value == values[row, column]:
                _write(axes, row, column, values[row, column], cell.name in carried)
        if _BASELINE[0] in asks and _BASELINE[1] in teaches:
            column, row = teaches.index(_BASELINE[1]), asks.index(_BASELINE[0])
            if np.isnan(values[row, column]):
                axes.text(column, row, f"1 ({PASSIVE})", ha="center", va="center")
        axes.set_xticks(range(len(teaches)), teaches)
        axes.set_yticks(range(len(asks)), asks)
        axes.set_xlabel("taught besides the labels")
        axes.set_ylabel("asked")
        figure.suptitle(f"Labels to target, ratio to passive:\n{table.regime.name}")
        bar = figure.colorbar(image, ticks=[math.log(2.0**power) for power in range(-3, 4)])
        bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        figure.supxlabel(
            f"{table.world.name}, {table.baseline.measured.arm.seeds} seeds; framed: carried on;\nin brackets: "
            "screened only, claims nothing",
            fontsize=8,
        )
    return figure


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure, without the window system and the global list of figures of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _asks(agent: str, ask: Any, chooses: bool) -> str:
    rule = str(ask.get("ask", "random")) if agent == COMPOSED else agent
    return f"{rule}, {ask.get('prompts', 'chosen')} prompts" if chooses else rule


def _write(axes: Any, row: int, column: int, value: float, carried: bool) -> None:
    text = "never" if math.isinf(value) else f"{math.exp(value):.2f}"
    strong = abs(value) > 0.6 * _FULL
    colour = "white" if strong else "black" if carried else "#444444"
    axes.text(column, row, text if carried else f"({text})", ha="center", va="center", color=colour)
    if carried:
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, edgecolor="black", linewidth=2))


def labels_to_target(tables: Sequence[Table], theme: Theme = LIGHT) -> Figure:
    """Draw labels to the target with intervals, every arm of every table; an arrow where never is among the draws.

    An arm has the same line in all panels, in the order of the first one. A dotted line says where the others
    end, who are not followed as long as `passive`.
    """
    colours = {"cell": theme.palette[0], "control": theme.muted, "privileged": theme.palette[1]}
    lines: list[str] = []  # from below
    for table in tables:
        fewest_last = sorted(table.comparisons, key=lambda label: -table.comparisons[label].labels.value)
        lines[:0] = [label for label in fewest_last if label not in lines]
    lines.append(PASSIVE)
    columns = min(len(tables), _PANELS)
    rows = math.ceil(len(tables) / columns)
    with matplotlib_settings(theme):
        figure = _figure(2.6 + 2.9 * columns, (1.2 + 0.27 * len(lines)) * rows + 0.3)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes in panels[len(tables) :]:
            axes.set_visible(False)
        for axes, table in zip(panels, tables, strict=False):
            end, last = float(table.baseline.labels), float(table.baseline.measured.arm.labels[-1])
            first = next(iter(table.comparisons.values())).baseline_labels
            bars = [(PASSIVE, first, theme.baseline, last)]
            bars += [(label, one.labels, colours[table.roles[label]], end) for label, one in table.comparisons.items()]
            shown = max(end, *(min(one.high, limit) for _, one, _, limit in bars))
            for label, estimate, colour, limit in bars:
                place = lines.index(label)
                low, high = min(estimate.low, limit), min(estimate.high, limit)
                axes.plot([low, high], [place, place], color=colour, linewidth=2)
                if estimate.value <= limit:
                    axes.plot(estimate.value, place, "o", color=colour)
                if estimate.high > limit:
                    axes.plot(limit, place, ">", color=colour)
            if shown > end:
                axes.axvline(end, color=theme.muted, linewidth=1, linestyle=":")
            axes.set_yticks(range(len(lines)), lines)
            axes.set_ylim(-0.6, len(lines) - 0.4)
            axes.set_xlim(0, 1.04 * shown)
            axes.set_xlabel("labels to target")
            axes.set_title(f"{table.world.name}\n{label_of(table.metric)}", fontsize=10)
        figure.suptitle(tables[0].regime.name)
        figure.supxlabel(
            "Dots: all seeds; lines: 95 % bootstrap intervals, unpaired; arrows: some draws never arrive.\n"
            "Blue: carried cells; orange: told the utility; grey: controls; dotted: where all but passive end.",
            fontsize=8,
        )
    return figure


def save_pictures(study: Study, tables: Sequence[Table], carried: Mapping[str, Sequence[str]], root: Path) -> None:
    """Write the figures of all tables as PNG files into a study's folder.

    Args:
        study: The study.
        tables: Screened and confirmed.
        carried: Labels of the cells that were carried on, by regime.
        root: The folder.
    """
    drawn = {}
    for table in tables:
        if table.stage == "screen" and table.comparisons:
            drawn[f"screen-{table.regime.name}"] = heat_map(study, table, carried[table.regime.name])
    for regime in study.regimes:
        confirmed = [t for t in tables if t.stage != "screen" and t.regime is regime and t.comparisons]
        if confirmed:
            drawn[f"labels-{regime.name}"] = labels_to_target(confirmed)
    for name, figure in drawn.items():
        with files.atomic(root / f"{name}.png") as stream:
            stream.write(as_bytes(figure, "png"))
