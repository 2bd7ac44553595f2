"""The tables of a study, as text and as Parquet: every arm that was run, screened or confirmed, cell or control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.experiments.efficiency.resampling import Comparison, Estimate
from duelenv.experiments.efficiency.runs import Measured
from duelenv.experiments.efficiency.stages import Table, Tuned
from duelenv.experiments.efficiency.study import CONFIRMED, PASSIVE, Regime
from duelenv.experiments.efficiency.verdicts import NullCheck, verdicts
from duelenv.experiments.folder import files
from duelenv.experiments.results.metrics import better, label_of
from duelenv.experiments.tables.statistics import mean_interval
from duelenv.ground.terminal import printable

__all__ = ["claims", "null_text", "table_text", "tuning_text", "write_arms"]


def claims(tables: Sequence[Table]) -> dict[tuple[str, str, str], str]:
    """Judge every arm, by world, regime and label.

    Holm's family are the carried cells of a regime in all worlds that are held out, further ones among them. Controls
    and screened cells make no claim: theirs is what their own interval shows, marked as such.
    """
    found: dict[tuple[str, str, str], str] = {}
    families: dict[str, list[tuple[tuple[str, str, str], Comparison]]] = {}
    for table in tables:
        for label, comparison in table.comparisons.items():
            place = (table.world.name, table.regime.name, label)
            if table.stage != "screen" and table.roles[label] == "cell" and table.world.kind in CONFIRMED:
                families.setdefault(table.regime.name, []).append((place, comparison))
            else:
                found[place] = f"({verdicts([comparison])[0]})"
    for family in families.values():
        said = verdicts([comparison for _, comparison in family])
        found |= {place: verdict for (place, _), verdict in zip(family, said, strict=True)}
    return found


def table_text(table: Table, said: Mapping[tuple[str, str, str], str]) -> str:
    """Write a table of one regime in one world, with a second one at equal pair-gradients and sampled prompts."""
    baseline = table.baseline
    settled = "" if baseline.settled else "; NOT SETTLED, so that all of this is to be read with care"
    slope = baseline.plateau.slope
    header = ["agent", "role", "seeds", "labels to target", "ratio", "never", "verdict", "area", "KL there", "regret"]
    header += ["steps", "informative", "first", "third"]
    rows = [_baseline_row(table)]
    for label, comparison in _ranked(table):
        rows.append(
            [
                label,
                table.roles[label],
                str(table.arms[label].arm.seeds),
                _labels(comparison.labels),
                _ratio(comparison.log_ratio),
                f"{comparison.never:.0%}",
                said[table.world.name, table.regime.name, label],
                *(_number(figure, signed=True) for figure in (comparison.area, comparison.kl, comparison.regret)),
                *_figures(table.arms[label]),
            ]
        )
    second = [["agent", "ratio of pair-gradients", "ratio of sampled prompts"]]
    for label, comparison in _ranked(table):
        shifts = cost_shifts(table, label)
        second.append([label, *(_ratio(_moved(comparison.log_ratio, shift)) for shift in shifts)])
    target = next(iter(table.comparisons.values())).target if table.comparisons else None
    return "\n".join(
        [
            f"{table.stage}: {table.regime.name} in {table.world.name} ({table.world.kind}), {baseline.labels} labels",
            f"{_measure_text(table.metric)}; passive ends at {baseline.plateau.height:.3f}, slope "
            f"{1000 * slope.mean:+.3f} [{1000 * slope.low:+.3f}, {1000 * slope.high:+.3f}] per 1,000 labels; it "
            f"arrives in {baseline.arrives:.1%} of resamples{settled}",
            *([] if target is None else [f"target {_number(target)}"]),
            "",
            _aligned([header, *rows]),
            "",
            "at equal pair-gradients, and at equal sampled prompts:",
            _aligned(second),
            *(f"not played, {label}: {why}" for label, why in table.left_out.items()),
        ]
    )


def _measure_text(metric: str) -> str:
    """Name what is to be reached; what is better where it is lower stands with its sign changed."""
    return f"minus {label_of(metric)}" if better(metric) == "lower" else label_of(metric)


def cost_shifts(table: Table, label: str) -> tuple[float, float]:
    """Find how much dearer an arm's labels are than `passive`'s, as logs: in pair-gradients, in sampled prompts.

    The first is NaN where no policy is trained.
    """
    own, other = table.arms[label], table.baseline.measured
    if other.figures["gradient_steps"] == 0:  # no policy is trained
        return math.nan, math.log(own.rows / other.rows)
    gradients = _pairs_a_label(own, table.regime) / _pairs_a_label(other, table.regime)
    return math.log(gradients), math.log(own.rows / other.rows)


def _pairs_a_label(measured: Measured, regime: Regime) -> float:
    """Count pairs whose gradient was taken for each label, old and imagined ones included, each time that it was."""
    settings = measured.entry.settings
    rounds = float(measured.arm.labels[-1]) / regime.per_round
    taught = rounds * settings.get("gradient_steps", 1) if settings.get("teach_labels", True) else 0.0
    imagined = max(measured.figures["gradient_steps"] - taught, 0.0)
    pairs = taught * (regime.per_round + settings.get("replay", 0))
    if imagined:
        pairs += imagined * float(np.nan_to_num(measured.figures["model_labels"]))
    return pairs / float(measured.arm.labels[-1])


def tuning_text(regime: Regime, tuned: Mapping[str, Tuned]) -> str:
    """Write all trials of a regime, the best of each agent marked, and those that were raced."""
    trials = next(iter(tuned.values())).trials
    races = any(len(one.finalists) < len(trials) for one in tuned.values())
    header = ["agent", *(" ".join(f"{key}={value}" for key, value in trial.items()) for trial in trials)]
    rows = [
        [
            name,
            *(
                f"{score:.3f}" + ("*" if trial is one.best else "'" if races and number in one.finalists else "")
                for number, (trial, score) in enumerate(zip(trials, one.scores, strict=True))
            ),
        ]
        for name, one in tuned.items()
    ]
    columns = [list(column) for column in zip(header, *rows, strict=True)]  # trials downwards: there are more of them
    raced = "; ' and *: tried on more seeds" if races else ""
    return f"tune: {regime.name}, mean height of the curve{raced}\n\n{_aligned(columns)}"


def null_text(tables: Sequence[Table], check: NullCheck) -> str:
    """Say what the null check found, in each table and in all of them together."""
    header = ["stage", "regime", "world", "seeds", "'not shown'"]
    rows = [
        [
            table.stage,
            table.regime.name,
            table.world.name,
            str(table.baseline.measured.arm.seeds),
            f"{share:.1%}",
        ]
        for table, share in zip(tables, check.not_shown, strict=True)
    ]
    return (
        f"null check: halves of passive's seeds against each other, {check.trials} random splits\n\n"
        f"{_aligned([header, *rows])}\n\nnothing is claimed of any of them, all being one family, in "
        f"{check.none_shown:.1%}"
    )


def write_arms(tables: Sequence[Table], tuned: Mapping[str, Mapping[str, Tuned]], path: Path) -> None:
    """Write every arm that was run as a table, one row each.

    Args:
        tables: Screened and confirmed.
        tuned: Trials by regime and agent.
        path: Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = claims(tables)
    rows: list[dict[str, Any]] = []
    for table in tables:
        shared: dict[str, Any] = {
            "stage": table.stage,
            "regime": table.regime.name,
            "world": table.world.name,
            "kind": table.world.kind,
            "metric": table.metric,
        }
        shared |= {"labels": table.baseline.labels, "settled": table.baseline.settled}
        rows.append(shared | _arm_row(table.baseline.measured, "baseline"))
        for label, comparison in table.comparisons.items():
            figures: dict[str, Any] = {"verdict": said[table.world.name, table.regime.name, label]}
            figures |= {"never": comparison.never, "baseline_never": comparison.baseline_never}
            for name in ("target", "labels", "baseline_labels", "log_ratio", "area", "kl", "regret"):
                estimate: Estimate = getattr(comparison, name)
                column = {"labels": "labels_to_target", "baseline_labels": "baseline_labels_to_target"}.get(name, name)
                figures |= {f"{column}_{part}": value for part, value in vars(estimate).items()}
            rows.append(shared | _arm_row(table.arms[label], table.roles[label]) | figures)
    for regime, agents in tuned.items():
        for one in agents.values():
            for trial, score in zip(one.trials, one.scores, strict=True):
                rows.append(
                    {
                        "stage": "tune",
                        "regime": regime,
                        "agent": one.cell,
                        "settings": repr(dict(trial)),
                        "score": score,
                    }
                )
    names = list(dict.fromkeys(name for row in rows for name in row))
    with files.atomic(path) as stream:
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), stream)


def _arm_row(measured: Measured, role: str) -> dict[str, Any]:
    final = mean_interval(measured.arm.height[:, -1])
    return {
        "agent": measured.entry.label,
        "role": role,
        "settings": repr(dict(measured.entry.settings)),
        "seeds": measured.arm.seeds,
        "prompts_a_round": measured.rows,
        "final_mean": final.mean,
        "final_low": final.low,
        "final_high": final.high,
        **measured.figures,
    }


def _ranked(table: Table) -> list[tuple[str, Comparison]]:
    return sorted(table.comparisons.items(), key=lambda item: (item[1].log_ratio.value, -item[1].area.value))


def _baseline_row(table: Table) -> list[str]:
    measured = table.baseline.measured
    first = next(iter(table.comparisons.values()), None)
    labels = "-" if first is None else _labels(first.baseline_labels)
    never = "-" if first is None else f"{first.baseline_never:.0%}"
    return [PASSIVE, "baseline", str(measured.arm.seeds), labels, "1", never, "", "", "", "", *_figures(measured)]


def _figures(measured: Measured) -> list[str]:
    """Write steps and informative duels per 100 labels, and the median labels of the first and third."""
    hundreds = float(measured.arm.labels[-1]) / 100
    figures = measured.figures
    return [
        *(f"{figures[name] / hundreds:.1f}/100" for name in ("gradient_steps", "informative_duels")),
        *(_count(figures[name]) for name in ("first_informative_label", "third_informative_label")),
    ]


def _moved(estimate: Estimate, shift: float) -> Estimate:
    return Estimate(estimate.value + shift, estimate.low + shift, estimate.high + shift)


def _count(value: float) -> str:
    return "never" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.0f}"


def _labels(estimate: Estimate) -> str:
    return f"{_count(estimate.value)} [{_count(estimate.low)}, {_count(estimate.high)}]"


def _ratio(estimate: Estimate) -> str:
    """Write the ratio behind a log ratio."""
    if math.isnan(estimate.value):
        return "-"
    value, low, high = (
        "never" if bound == math.inf else f"{math.exp(bound):.2f}"
        for bound in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def _number(estimate: Estimate, *, signed: bool = False) -> str:
    if math.isnan(estimate.value):
        return "-"
    digits = 3 if abs(estimate.value) < 10 else 1
    sign = "+" if signed else ""
    return f"{estimate.value:{sign}.{digits}f} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as lines with columns under each other, the first row being the header."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])
