"""Metrics: which way is better."""

from duelenv.experiments.metrics import lower_is_better


def test_lower_is_better_for_regret():
    assert lower_is_better("simple_regret")
    assert lower_is_better("regret_average")
    assert not lower_is_better("win_rate")
