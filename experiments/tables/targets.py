"""How many labels an agent takes to what the baseline gains, with bootstrap intervals over seeds."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction, label_of
from duelenv.experiments.tables.comparison import file_name
from duelenv.experiments.tables.crossing import last_quarter, reached, target_of
from duelenv.experiments.tables.groups import Group
from duelenv.experiments.tables.statistics import bootstrap_tail, mean_interval
from duelenv.experiments.tables.text_table import TextTable, fixed

__all__ = ["Reach", "TargetLine", "TargetTable", "target_table"]

#: Of the baseline's gain that has to be reached.
_SHARE: Final = 0.9
#: Of the bootstrap.
_DRAWS: Final = 1_000
#: A gain that is smaller than this share of the heights is none.
_ROUNDING: Final = 1e-9
#: Fewer evaluations than this say nothing about when a curve crosses.
_LEAST: Final = 4


class Reach(NamedTuple):
    """A figure of the mean over seeds with its bootstrap interval; infinite where the target is never reached."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TargetLine:
    """One agent."""

    agent: str
    labels: Reach
    """Of each seed, until its mean curve is at the target for good."""
    ratio: Reach | None
    """Labels of the baseline for each label of this agent; None for the baseline itself."""
    never: float
    """Share of draws in which it does not get there."""
    difference: None = None
    """What is compared is the ratio."""
    verdict: str = ""
    leads: bool = False


@dataclass(frozen=True)
class TargetTable(TextTable):
    """Agents of one world and the labels that they take to the same target, the fewest first."""

    primary: str
    baseline: str
    target: float
    """The height, as of the seeds as they are."""
    end: float
    """Labels at the end of the baseline's curve."""
    lines: tuple[TargetLine, ...]
    better: Direction | None
    name: str = "targets"
    title: str = ""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """The agent."""
        return (0,)

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        return (
            f"Labels of a seed until the mean {label_of(self.primary)} is for good at {self.target:.3g}: "
            f"{100 * _SHARE:.0f} % of the way that {self.baseline} goes in {self.end:,.0f} labels. Curves are taken to "
            "be monotone (isotonic regression). Ratio: labels of the baseline for each of the agent's, above 1 is "
            f"fewer; brackets are 95 % bootstrap intervals, in which seeds, and with them the target, are drawn anew "
            f"{_DRAWS:,} times; not corrected for the number of agents. "
            "> marks what lies beyond the end of the run."
        )

    def header(self) -> list[str]:
        """List column titles."""
        return ["agent", "labels to the target", f"ratio to {self.baseline}", "draws that never get there"]

    def cells(self) -> list[list[str]]:
        """Write the lines as text."""
        return [
            [
                line.agent,
                _reach_text(line.labels, 0, self.end),
                "" if line.ratio is None else _reach_text(line.ratio, 2, float("nan")),
                f"{100 * line.never:.0f} %",
            ]
            for line in self.lines
        ]

    def csv(self) -> str:
        """Find the numbers behind the table."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["agent", *(f"{name}_{part}" for name in ("labels", "ratio") for part in Reach._fields), "never"]
        )
        for line in self.lines:
            writer.writerow([line.agent, *line.labels, *(line.ratio or ("", "", "")), line.never])
        return stream.getvalue()


@dataclass(frozen=True)
class _Curves:
    """Heights [S, T] at mean labels [T], turned so that higher is better."""

    labels: NDArray[np.float64]
    heights: NDArray[np.float64]

    def means(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Average curves of the seeds as they are, and of seeds drawn anew, [1 + draws, T]."""
        seeds = len(self.heights)
        counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=_DRAWS)
        return np.concatenate([np.ones((1, seeds)), counts]) / seeds @ self.heights


def target_table(results: Results, group: Group) -> TargetTable | None:
    """Say when each agent of a world reaches what the baseline gains.

    Seeds of each agent are drawn by themselves: where a policy is alive, pairing buys nothing after the first update.

    Args:
        results: The run.
        group: The agents that met the world.

    Returns:
        None where there is no baseline, where nobody said which way is better or the baseline is not shown to gain
        anything, where the metric only adds up, or with fewer than 2 seeds or 4 evaluations.
    """
    metric = _metric(results)
    way = None if metric is None else results.better(metric)
    if metric is None or way is None or group.baseline not in group.agents:
        return None
    sign = 1.0 if way == "higher" else -1.0
    curves = {agent: _curves(results, agent, metric, sign) for agent in group.agents}
    baseline = curves[group.baseline]
    if baseline is None:
        return None
    end = last_quarter(baseline.labels)
    gain = mean_interval(baseline.heights[:, end].mean(axis=1) - baseline.heights[:, 0])
    if not gain.low > _ROUNDING * np.abs(baseline.heights).max():
        return None
    streams = np.random.default_rng(0).spawn(len(curves) + 1)
    base = baseline.means(streams[0])
    targets = target_of(baseline.labels, base, _SHARE)
    base_labels = reached(baseline.labels, base, targets)
    lines = []
    for (agent, own), stream in zip(curves.items(), streams[1:], strict=True):
        if own is None:
            continue
        drawn = base_labels if agent == group.baseline else reached(own.labels, own.means(stream), targets)
        tail = bootstrap_tail(min(len(own.heights), len(baseline.heights)))
        ratio = None if agent == group.baseline else _reach(_ratio(base_labels, drawn), tail)
        never = float(np.isinf(drawn[1:]).mean())
        lines.append(TargetLine(group.name_of(agent), _reach(drawn, tail), ratio, never))
    return TargetTable(
        metric,
        group.name_of(group.baseline),
        sign * float(targets[0]),
        float(baseline.labels[-1]),
        tuple(sorted(lines, key=lambda line: (line.labels.value, line.never))),
        way,
        file_name("targets", group),
        group.title,
    )


def _metric(results: Results) -> str | None:
    """Say what has a height that is reached: the metric that agents are compared by, unless it adds up."""
    if not results.primary.startswith("regret_"):
        return results.primary
    return "simple_regret" if results.has("simple_regret") else None


def _curves(results: Results, agent: str, metric: str, sign: float) -> _Curves | None:
    _, labels = results.curve(agent, "queries")
    _, values = results.curve(agent, metric)
    known = ~(np.isnan(values) | np.isnan(labels)).any(axis=0)
    means = labels[:, known].mean(axis=0)
    more = np.diff(means, prepend=-1.0) > 0  # an evaluation without a label since the last one is the same place
    places = np.flatnonzero(known)[more]
    if len(values) < 2 or len(places) < _LEAST:
        return None
    return _Curves(means[more], sign * values[:, places])


def _ratio(baseline: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels of the baseline by those of an agent; 1 where both begin at the target or neither gets there."""
    equal = (baseline == own) | (np.isinf(baseline) & np.isinf(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 1.0, baseline / own)


def _reach(drawn: NDArray[np.float64], tail: float) -> Reach:
    # Quantiles that are one of the draws: halfway between a number and infinity there is nothing.
    low, high = np.quantile(drawn[1:], [tail, 1.0 - tail], method="inverted_cdf")
    return Reach(float(drawn[0]), float(low), float(high))


def _reach_text(reach: Reach, digits: int, end: float) -> str:
    value, low, high = (_number_text(part, digits, end) for part in reach)
    return f"{value} [{low}, {high}]"


def _number_text(value: float, digits: int, end: float) -> str:
    if np.isfinite(value):
        return fixed(value, digits)
    return "∞" if np.isnan(end) else f"> {end:,.0f}"
