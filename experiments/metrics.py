"""The metrics of a run, columns of `results.parquet`: what people call them, their units, which way is better."""

from __future__ import annotations

from collections.abc import Collection

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["ANY_REGRET", "check_measured", "is_measured", "is_regret", "label_of", "lower_is_better", "title_of"]

#: As `metric` of a config: the first notion of regret that the world knows.
ANY_REGRET = "regret"

_LABELS = {
    "win_rate": "win rate",
    "win_rate_best_of_n": "best-of-n win rate",
    "simple_regret": "simple regret",
    "kl": "KL to start",
    "utility": "utility",
    "queries": "labels",
    "evaluation_queries": "labels for evaluation",
    "unanswered": "unanswered comparisons",
    "gradient_steps": "gradient steps",
    "seconds": "time",
    "response_tokens": "response length",
    "duel_certainty": "certainty of the last duels",
}

_UNITS = {
    "kl": "nats",
    "seconds": "s",
    "response_tokens": "tokens",
    "queries": "oracle queries",
}

_TITLES = {
    "win_rate": "Win rate against the start policy",
    "win_rate_best_of_n": "Win rate of the recommended candidate",
    "simple_regret": "Simple regret of the recommended candidate",
}


def label_of(metric: str, *, unit: bool = False) -> str:
    """A metric's name as people write it.

    Args:
        metric: A column.
        unit: Append the unit in brackets, for axes.
    """
    if metric.startswith("regret_"):
        text = f"{metric.removeprefix('regret_')} regret, cumulative"
    else:
        text = _LABELS.get(metric, metric.replace("_", " "))
    return f"{text} ({_UNITS[metric]})" if unit and metric in _UNITS else text


def title_of(metric: str) -> str:
    """A metric's name as the title of a figure."""
    if metric.startswith("regret_"):
        return f"Cumulative regret ({metric.removeprefix('regret_')})"
    return _TITLES.get(metric, label_of(metric).capitalize())


def is_regret(metric: str) -> bool:
    """Whether the metric is cumulative regret, of one notion or of any: it is the world that knows it."""
    return metric == ANY_REGRET or metric.startswith("regret_")


def is_measured(metric: str, names: Collection[str]) -> bool:
    """Whether a config's `metric` can be had from the columns of these names."""
    return metric in names or (metric == ANY_REGRET and any(name.startswith("regret_") for name in names))


def check_measured(metric: str, names: Collection[str]) -> None:
    """Refuses a config's `metric` that cannot be had from the columns of these names.

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


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one."""
    return "regret" in metric or metric in ("loss", "kl")
