"""Intervals of a family: as wide as Holm's procedure asks, and 0 inside exactly where nothing is shown."""

import numpy as np
import pytest
from scipy import stats

from duelenv.experiments.tables.simultaneous import holm_intervals
from duelenv.experiments.tables.statistics import corrected, mean_interval


def test_each_interval_has_the_level_that_it_was_tested_at():
    family = [mean_interval([value - 0.5, value, value + 0.5]) for value in (9.0, 0.1, 4.0)]
    first, last, second = holm_intervals(family)
    error = 0.5 / np.sqrt(3)
    for interval, level in ((first, 0.05 / 3), (second, 0.05 / 2), (last, 0.05)):
        assert interval.high - interval.mean == pytest.approx(stats.t.ppf(1 - level / 2, 2) * error)
        assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


def test_after_the_first_that_is_not_shown_all_are_as_wide_as_that_one():
    family = [mean_interval([value - 1.0, value, value + 1.0]) for value in (0.3, 0.2, 0.1)]
    widths = [interval.half_width for interval in holm_intervals(family)]
    assert widths == pytest.approx([stats.t.ppf(1 - 0.05 / 6, 2) / np.sqrt(3)] * 3)


def test_zero_is_left_out_exactly_where_a_difference_is_shown():
    generator = np.random.default_rng(0)
    agreed = set()
    for _ in range(60):
        family = [mean_interval(generator.normal(shift, 1.0, size=6)) for shift in (0.0, 0.8, 1.3, 2.0)]
        for wide, shown in zip(holm_intervals(family), corrected(family), strict=True):
            assert (wide.low > 0 or wide.high < 0) == shown.shows_difference
            agreed.add(shown.shows_difference)
    assert agreed == {True, False}


def test_what_has_no_interval_is_no_member():
    alone = mean_interval([1.0, 1.2, 0.9])
    one_seed = mean_interval([1.0])
    baseline, single, only = holm_intervals([None, one_seed, alone])
    assert baseline is None
    assert single is one_seed
    assert only.low == pytest.approx(alone.low)
