"""The metrics of a run, columns of `results.parquet`: what people call them, their units, which way is better.

Whether a name can be a column at all is decided here too: figures are written to files of these names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from duelenv.experiments.folder.layout import LONGEST_NAME
from duelenv.experiments.results.informative import INFORMATIVE_COLUMNS
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.worlds.alignment_duel.candidates import SAMPLER_FIGURES

__all__ = [
    "ANY_REGRET",
    "BOOKKEEPING",
    "KEYS",
    "Direction",
    "better",
    "check_better",
    "check_measured",
    "check_name",
    "described",
    "is_measured",
    "is_regret",
    "is_reserved",
    "label_of",
    "title_of",
]

Direction = Literal["lower", "higher"]

#: As `metric` of a config: the first notion of regret that the world knows.
ANY_REGRET = "regret"

#: Columns that say what a row is about; all others are metrics.
KEYS = ("agent", "seed", "step")

#: What the runner counts and times in every world. It says what was spent, not what was reached.
BOOKKEEPING = (
    "queries",
    "gradient_steps",
    "seconds",
    "evaluation_queries",
    "unanswered",
    "duel_certainty",
    *INFORMATIVE_COLUMNS,
    "alike",
    *SAMPLER_FIGURES,
)


@dataclass(frozen=True)
class _Metric:
    """A metric that the runner or one of the worlds measures."""

    label: str
    """What people call it."""
    better: Direction | None = None
    """Which way is better; None where neither is, as of what is only counted."""
    unit: str = ""
    """For axes and column titles."""
    title: str = ""
    """As the title of a figure; the label if empty."""


_KNOWN = {
    "win_rate": _Metric("win rate", "higher", title="Win rate against the start policy"),
    "win_rate_best_of_n": _Metric("best-of-n win rate", "higher", title="Win rate of the recommended candidate"),
    "simple_regret": _Metric("simple regret", "lower", title="Simple regret of the recommended candidate"),
    "kl": _Metric("KL to start", "lower", "nats"),
    "objective": _Metric("utility less beta KL", "higher", title="Regularised objective"),
    "kl_regret": _Metric("regret to the regularised optimum", "lower"),
    "temperature_zero_regret": _Metric("regret to the best response", "lower"),
    "utility": _Metric("utility", "higher"),
    "belief_calibration": _Metric("error of the belief in its own deviations"),
    "belief_calibration_off": _Metric("the same on the start policy's responses"),
    "belief_log_loss": _Metric("log-loss of the belief", "lower", "nats"),
    "belief_log_loss_off": _Metric("log-loss of the belief on the start policy's responses", "lower", "nats"),
    "queries": _Metric("labels", unit="oracle queries"),
    "evaluation_queries": _Metric("labels for evaluation"),
    "unanswered": _Metric("unanswered comparisons"),
    "gradient_steps": _Metric("gradient steps"),
    "seconds": _Metric("time", "lower", "s"),
    "response_tokens": _Metric("response length", unit="tokens"),
    "duel_certainty": _Metric("certainty of the last duels"),
    "informative_duels": _Metric("informative duels"),
    "first_informative_label": _Metric("label of the first informative duel"),
    "third_informative_label": _Metric("label of the third informative duel"),
    "alike": _Metric("share of prompts whose last candidates were all alike"),
    "sampler_lag": _Metric("lag of the sampler", unit="updates"),
    "importance_mean": _Metric("mean importance ratio of the candidates"),
    "importance_max": _Metric("largest importance ratio of the candidates"),
    "effective_sample_share": _Metric("effective share of the candidates"),
}


def label_of(metric: str, *, unit: bool = False) -> str:
    """Write a metric's name as people do.

    Args:
        metric: A column.
        unit: Append the unit in brackets, for axes.
    """
    known = _KNOWN.get(metric)
    if known is not None:
        return f"{known.label} ({known.unit})" if unit and known.unit else known.label
    if metric.startswith("regret_"):
        return f"{metric.removeprefix('regret_')} regret, cumulative"
    return metric.replace("_", " ")


def described() -> list[tuple[str, str, Direction | None]]:
    """List the name, what it is with its unit, and which way is better, of every metric that is known by name."""
    return [(name, label_of(name, unit=True), metric.better) for name, metric in _KNOWN.items()]


def title_of(metric: str) -> str:
    """Write a metric's name as the title of a figure."""
    if metric.startswith("regret_"):
        return f"Cumulative regret ({metric.removeprefix('regret_')})"
    known = _KNOWN.get(metric)
    return known.title if known is not None and known.title else label_of(metric).capitalize()


def better(metric: str, declared: Direction | None = None) -> Direction | None:
    """Find which way of a metric is better, or None where nobody said.

    Of what an agent returns from `update`, and of what a user's world measures, nobody but the config knows.

    Args:
        metric: A column, or `ANY_REGRET`.
        declared: The config's `better`, where the config's `metric` is this one.
    """
    if is_regret(metric):
        return "lower"
    known = _KNOWN.get(metric)
    return known.better if known is not None and known.better is not None else declared


def check_better(metric: str | None, declared: str | None) -> Direction | None:
    """Check the config's `better`, which says of its `metric` which way is better.

    Raises:
        UserError: It is no direction, says it of no metric, or says the opposite of what is known.
    """
    if declared is None:
        return None
    if declared not in ("lower", "higher"):
        raise UserError(f"'better' is {declared!r}, expected which way of 'metric' is better: lower or higher")
    if metric is None:
        raise UserError(f"'better' is {declared!r}, but no 'metric' is set that it could be said of: set 'metric' too")
    known = better(metric)
    if known not in (None, declared):
        raise UserError(f"'better' is {declared!r}, but of {metric!r} {known} is better: leave 'better' out")
    return "lower" if declared == "lower" else "higher"


def is_regret(metric: str) -> bool:
    """Tell whether the metric is cumulative regret, of one notion or of any: it is the world that knows it."""
    return metric == ANY_REGRET or metric.startswith("regret_")


def is_reserved(name: str) -> bool:
    """Tell whether a column of this name is the runner's or a world's, so that no agent's figure may have it."""
    return name in KEYS or name in _KNOWN or is_regret(name)


def check_name(name: object, whose: str) -> str:
    """Check a name that a column may have, and with it a file.

    Args:
        name: What was given.
        whose: Who gave the column this name, as the sentence begins.

    Raises:
        UserError: It is no text, or would not do as a file's name.
    """
    usable = isinstance(name, str) and re.fullmatch(r"[\w.+-]+", name) is not None and name not in (".", "..")
    if not usable or len(str(name).encode()) > LONGEST_NAME:
        shown = ascii(name) if len(ascii(name)) <= 60 else f"{ascii(name)[:60]}..."
        raise UserError(
            f"{whose} has the name {shown}, expected at most {LONGEST_NAME} letters, digits, '.', '_', '+' and '-': "
            "rename it"
        )
    return str(name)


def is_measured(metric: str, names: Collection[str]) -> bool:
    """Tell whether a config's `metric` can be had from the columns of these names."""
    return metric in names or (metric == ANY_REGRET and any(name.startswith("regret_") for name in names))


def check_measured(metric: str, names: Collection[str]) -> None:
    """Refuse a config's `metric` that cannot be had from the columns of these names.

    Raises:
        UserError: It cannot.
    """
    if is_measured(metric, names):
        return
    notions = [name for name in names if name.startswith("regret_")]
    if not is_regret(metric):
        raise UserError(f"'metric' is {metric!r}, which this run does not measure: {choices(metric, names)}")
    if notions:
        raise UserError(
            f"'metric' is {metric!r}, which this world does not know, as where a matrix has no Condorcet winner: "
            f"choose from {', '.join(sorted(notions))}, or {ANY_REGRET!r} for the first that is known"
        )
    raise UserError(
        f"'metric' is {metric!r}, but this world knows no regret, as where its oracle has no utility: "
        f"{choices(metric, names)}"
    )
