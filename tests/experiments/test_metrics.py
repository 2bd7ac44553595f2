"""Metrics: which way is better."""

import pytest

from duelenv import UserError
from duelenv.experiments.metrics import check_measured, is_measured, lower_is_better


def test_lower_is_better_for_regret():
    assert lower_is_better("simple_regret")
    assert lower_is_better("regret_average")
    assert not lower_is_better("win_rate")


@pytest.mark.parametrize(
    ("metric", "names", "named"),
    [
        ("win_rte", ["win_rate", "regret_sum"], "does not measure: did you mean 'win_rate'"),
        ("regret_average", ["kl", "regret_borda"], "no Condorcet winner: choose from regret_borda, or 'regret'"),
        ("regret", ["kl"], "knows no regret.*choose from kl"),
    ],
)
def test_a_metric_that_is_not_measured_is_one_sentence(metric, names, named):
    assert not is_measured(metric, names)
    with pytest.raises(UserError, match=named):
        check_measured(metric, names)


def test_any_regret_is_measured_where_one_is():
    assert is_measured("regret", ["kl", "regret_borda"])
    check_measured("regret_borda", ["kl", "regret_borda"])
