"""Compares the agents of a run: at the same number of labels, who ends better than the baseline?

And is the difference larger than what seeds do by themselves? Differences are paired by seed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import Direction, label_of
from duelenv.experiments.tables.borderline import borderline_caption, judged, judged_alone
from duelenv.experiments.tables.groups import Group, group_agents
from duelenv.experiments.tables.statistics import Interval, detectable, family_text, mean_interval, paired
from duelenv.experiments.tables.text_table import (
    TextTable,
    count_text,
    difference_text,
    duration_text,
    turning_seeds,
    value_text,
    verdict_of,
)

__all__ = ["ComparisonLine", "ComparisonTable", "comparison_table", "file_name", "reference_name"]


@dataclass(frozen=True)
class ComparisonLine:
    """One agent's line of the final table."""

    agent: str
    labels: Interval
    gradient_steps: Interval
    primary: Interval
    difference: Interval | None
    """Paired difference to the baseline in the primary metric; None for the baseline itself."""
    others: tuple[Interval, ...]
    seconds: Interval

    peer: str | None = None
    """The variant of the baseline that took as many gradient steps, where that is not the baseline itself."""
    peer_difference: Interval | None = None
    """Paired difference to the peer in the primary metric."""
    learns: bool = True
    """False for a reference, which asks for no labels."""
    leads: bool = False
    """Never marked: this table has few lines."""

    @property
    def verdict(self) -> str:
        """What the difference shows, in words."""
        return verdict_of(self.difference)


@dataclass(frozen=True)
class ComparisonTable(TextTable):
    """The final table of a run."""

    primary: str
    baseline: str
    others: tuple[str, ...]
    """Further metrics, in the order of `ComparisonLine.others`."""
    lines: tuple[ComparisonLine, ...]
    shared_time: bool
    """Whether all seeds of an agent ran together, so that its time is that of all."""
    better: Direction | None
    """Which way of the primary metric is better, or None where nobody said."""
    name: str = "table"
    title: str = ""

    @property
    def text_columns(self) -> tuple[int, ...]:
        """Columns that hold words: the agent and the differences."""
        difference = 4 if self._trained else 3
        return (0, difference, difference + 1) if self._has_peers else (0, difference)

    @property
    def _trained(self) -> bool:
        """Whether any policy was trained; without one, a column of zeros says nothing."""
        return any(line.gradient_steps.mean > 0 for line in self.lines)

    @property
    def _has_peers(self) -> bool:
        """Whether any agent took another number of gradient steps than the baseline, and has a peer for that."""
        return any(line.peer is not None for line in self.lines)

    @property
    def caption(self) -> str:
        """What the reader has to know."""
        counts = sorted({line.primary.seeds for line in self.lines if line.learns})
        seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        noun = "seed" if seeds == "1" else "seeds"
        family = [line.difference for line in self.lines if line.learns and line.difference is not None]
        marked = [one for line in self.lines for one in (line.difference, line.peer_difference)]
        better = "nobody said which way is better" if self.better is None else f"{self.better} is better"
        time = "time is that of all seeds together" if self.shared_time else "time is the mean of a seed"
        return (
            f"{seeds} {noun}; ± is half a 95 % t-interval over seeds, brackets are the interval of the difference to "
            f"{self.baseline}, paired by seed{family_text(len(family))}{seen_text(family)}"
            f"{borderline_caption(marked)}; {label_of(self.primary)}: {better}; {time}, without evaluation"
            f"{self._kl_caption}."
        )

    @property
    def _kl_caption(self) -> str:
        """Say how a divergence can be negative, where one is."""
        if "kl" not in self.others or not any(line.others[self.others.index("kl")].mean < 0 for line in self.lines):
            return ""
        return "; KL is estimated from the policy's own responses, and near 0 the estimate may fall below it"

    def header(self) -> list[str]:
        """Name the columns."""
        return [
            "agent",
            "labels",
            *(["gradient steps"] if self._trained else []),
            label_of(self.primary),
            f"difference to {self.baseline}",
            *(["difference at equal gradient steps"] if self._has_peers else []),
            *(label_of(metric, unit=True) for metric in self.others),
            "time",
        ]

    def cells(self) -> list[list[str]]:
        """Write the lines as text."""
        return [
            [
                line.agent,
                count_text(line.labels),
                *([count_text(line.gradient_steps)] if self._trained else []),
                value_text(line.primary),
                difference_text(line.difference),
                *([_peer_difference(line)] if self._has_peers else []),
                *(value_text(interval) for interval in line.others),
                duration_text(line.seconds),
            ]
            for line in self.lines
        ]

    def csv(self) -> str:
        """Write the numbers behind the table, with every interval in columns of its own."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        names = ["labels", "gradient_steps", self.primary, "difference", "peer_difference", *self.others, "seconds"]
        bounds = ("mean", "low", "high", "seeds")
        columns = [f"{name}_{bound}" for name in names for bound in bounds]
        writer.writerow(["agent", *columns, "difference_turns_without"])
        for line in self.lines:
            intervals = [
                *(line.labels, line.gradient_steps, line.primary, line.difference, line.peer_difference),
                *(*line.others, line.seconds),
            ]
            values: list[Any] = [line.agent]
            for interval in intervals:
                values += ["", "", "", ""] if interval is None else [getattr(interval, bound) for bound in bounds]
            writer.writerow([*values, turning_seeds(line.difference)])
        return stream.getvalue()


def comparison_table(results: Results, group: Group | None = None) -> ComparisonTable:
    """Make the final table of agents that met one world: the run's only one, or its first, if no group is given."""
    group = group or group_agents(results)[0]
    primary, baseline = results.primary, group.baseline
    others = _other_metrics(results)
    reference = results.final(baseline, primary) if baseline in results.agents else {}
    lines = [_agent_line(results, group, agent, others) for agent in group.agents]
    final = {agent: results.final(agent, primary) for agent in group.agents}
    verdicts = judged([None if agent == baseline else paired(final[agent], reference) for agent in group.agents])
    lines = [replace(line, difference=difference) for line, difference in zip(lines, verdicts, strict=True)]
    if primary == "simple_regret":
        for name, by_seed in results.references(group.agents).items():
            lines.append(_reference_line(name, by_seed, len(others), reference))
    return ComparisonTable(
        primary,
        group.name_of(baseline),
        others,
        tuple(lines),
        results.config.replicated,
        results.better(primary),
        file_name("table", group),
        group.title,
    )


def seen_text(differences: Sequence[Interval | None]) -> str:
    """Write for a caption how large a difference must be to be seen with these seeds."""
    least = detectable(differences)
    return "" if np.isnan(least) else f"; a true difference below {least:.2g} would mostly not be seen"


def file_name(kind: str, group: Group) -> str:
    """Name a table's files, of which there is one for each world: "table-a"."""
    usable = re.sub(r"[^\w.+]+", "_", group.title)
    return f"{kind}-{usable}" if usable else kind


def reference_name(rule: str) -> str:
    """Name in tables a rule that asks for no duel: "(longest response)"."""
    return f"({rule.replace('_', ' ')})"


def _other_metrics(results: Results) -> tuple[str, ...]:
    """Find the metrics that stand beside the primary one, as far as they were measured."""
    further = ("kl", "win_rate_best_of_n") if results.has("win_rate") else ("win_rate_best_of_n",)
    known = [
        name
        for name in (*further, results.regret, "duel_certainty", "evaluation_queries", "unanswered")
        if name is not None
    ]
    return tuple(name for name in known if results.has(name) and name != results.primary)


def _agent_line(results: Results, group: Group, agent: str, others: Iterable[str]) -> ComparisonLine:
    """Make the line of an agent, without its difference to the baseline, which is judged with those of the others."""
    final = results.final(agent, results.primary)
    peer = _peer(results, group, agent)
    return ComparisonLine(
        agent=group.name_of(agent),
        labels=_final_interval(results, agent, "queries"),
        gradient_steps=_final_interval(results, agent, "gradient_steps"),
        primary=_over_seeds(final),
        difference=None,
        others=tuple(_final_interval(results, agent, metric) for metric in others),
        seconds=_final_interval(results, agent, "seconds"),
        peer=None if peer is None else group.name_of(peer),
        peer_difference=None if peer is None else judged_alone(paired(final, results.final(peer, results.primary))),
    )


def _reference_line(
    name: str, by_seed: dict[int, float], num_others: int, reference: dict[int, float]
) -> ComparisonLine:
    """Make the line of a rule that learns nothing, of which only the primary metric is known."""
    unknown = mean_interval([])
    return ComparisonLine(
        agent=reference_name(name),
        labels=unknown,
        gradient_steps=unknown,
        primary=_over_seeds(by_seed),
        difference=judged_alone(paired(by_seed, reference)),
        others=(unknown,) * num_others,
        seconds=unknown,
        learns=False,
    )


def _peer(results: Results, group: Group, agent: str) -> str | None:
    """Find the variant of the baseline that took as many gradient steps as an agent that is no such variant.

    None where the baseline itself did, or no variant did.
    """
    names = {made.label: made.name for made in results.config.agents}
    baseline = group.baseline
    if baseline not in group.agents or names[agent] == names[baseline]:
        return None
    steps = {label: _final_interval(results, label, "gradient_steps").mean for label in group.agents}
    if steps[agent] == steps[baseline]:
        return None
    variants = [label for label in group.agents if names[label] == names[baseline]]
    return next((label for label in variants if steps[label] == steps[agent]), None)


def _final_interval(results: Results, agent: str, metric: str) -> Interval:
    return _over_seeds(results.final(agent, metric))


def _over_seeds(by_seed: dict[int, float]) -> Interval:
    return mean_interval(list(by_seed.values()))


def _peer_difference(line: ComparisonLine) -> str:
    if line.peer_difference is None:
        return ""
    return f"{difference_text(line.peer_difference)} (to {line.peer})"
