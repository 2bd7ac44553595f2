"""The metrics of a run, columns of `results.parquet`: what people call them, their units, which way is better."""

from __future__ import annotations

__all__ = ["label_of", "lower_is_better", "title_of"]

_LABELS = {
    "win_rate": "win rate",
    "win_rate_best_of_n": "best-of-n win rate",
    "simple_regret": "simple regret",
    "kl": "KL to start",
    "utility": "utility",
    "queries": "labels",
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


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one."""
    return "regret" in metric or metric in ("loss", "kl")
