"""Metrics: which way is better, and which names a column may have."""

import pytest

from duelenv import UserError
from duelenv.experiments.results.metrics import (
    better,
    check_better,
    check_measured,
    check_name,
    is_measured,
    is_reserved,
    label_of,
    title_of,
)


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        ("regret", "lower"),
        ("regret_average", "lower"),
        ("regret_of_my_own", "lower"),
        ("simple_regret", "lower"),
        ("kl", "lower"),
        ("seconds", "lower"),
        ("win_rate", "higher"),
        ("win_rate_best_of_n", "higher"),
        ("utility", "higher"),
        # Nobody said, whatever the name sounds like.
        *((name, None) for name in ("loss", "log_loss", "regrets_avoided", "no_regret", "accuracy", "my_win_rate")),
        *((name, None) for name in ("queries", "gradient_steps", "response_tokens", "duel_certainty", "unanswered")),
    ],
)
def test_which_way_is_better_is_known_or_not(metric, way):
    assert better(metric) == way
    for declared in ("lower", "higher"):
        assert better(metric, declared) == (way or declared)


def test_a_declared_direction_is_checked():
    assert check_better(None, None) is None
    assert check_better("loss", None) is None
    assert check_better("loss", "lower") == "lower"
    assert check_better("accuracy", "higher") == "higher"
    assert check_better("regret_sum", "lower") == "lower"


@pytest.mark.parametrize(
    ("metric", "declared", "named"),
    [
        ("loss", "smaller", "'better' is 'smaller', expected .* lower or higher"),
        (None, "lower", "no 'metric' is set"),
        ("regret", "higher", "but of 'regret' lower is better: leave 'better' out"),
        ("win_rate", "lower", "but of 'win_rate' higher is better"),
    ],
)
def test_a_declared_direction_that_cannot_be_is_one_sentence(metric, declared, named):
    with pytest.raises(UserError, match=named):
        check_better(metric, declared)


def test_labels_and_titles():
    assert label_of("kl") == "KL to start"
    assert label_of("kl", unit=True) == "KL to start (nats)"
    assert label_of("win_rate", unit=True) == "win rate"
    assert label_of("my_own", unit=True) == "my own"
    assert label_of("regret_von_neumann", unit=True) == "von_neumann regret, cumulative"
    assert title_of("win_rate") == "Win rate against the start policy"
    assert title_of("utility") == "Utility"
    assert title_of("my_own") == "My own"
    assert title_of("regret_sum") == "Cumulative regret (sum)"


def test_reserved_names():
    assert all(map(is_reserved, ("agent", "seed", "step", "queries", "kl", "regret", "regret_", "regret_x")))
    assert not any(map(is_reserved, ("loss", "regrets", "Agent", "my_kl")))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "regret_a/../../X", "a\\b", "a b", "a\n", "\x1b[2J", "a\0", 3])
def test_names_that_would_not_do_as_files_are_refused(name):
    with pytest.raises(UserError, match=r"A column of 'x' has the name .* expected at most 200 letters") as caught:
        check_name(name, "A column of 'x'")
    assert str(caught.value).isprintable()


def test_the_longest_name_is_counted_in_bytes():
    assert check_name("é" * 100, "It") == "é" * 100
    with pytest.raises(UserError, match="It has the name"):
        check_name("é" * 101, "It")


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
