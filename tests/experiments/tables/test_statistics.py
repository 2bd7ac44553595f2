"""Intervals against scipy's own, and the limits that define them."""

import numpy as np
import pytest
from scipy import stats

from duelenv.experiments.tables.statistics import (
    area_under_curve,
    band,
    corrected,
    detectable,
    family_text,
    log_log_slope,
    mean_interval,
    paired_difference,
)


def test_a_p_value_is_that_of_the_t_test_and_a_family_is_corrected_for_its_size():
    rng = np.random.default_rng(10)
    samples = [rng.normal(shift, 1.0, 20) for shift in (1.0, 0.55, 0.0)]
    family = [None, *(mean_interval(sample) for sample in samples), mean_interval([2.0])]
    p_values = [stats.ttest_1samp(sample, 0.0).pvalue for sample in samples]
    np.testing.assert_allclose([one.p_value for one in family[1:4]], p_values, rtol=1e-9)
    assert (
        p_values[0] < p_values[1] < 0.05 < 2 * p_values[1]
    )  # the second shows something alone, and not as one of three
    after = corrected(family)
    assert after[0] is None
    assert after[4] == family[4]
    np.testing.assert_allclose(
        [one.adjusted for one in after[1:4]], [3 * p_values[0], 2 * p_values[1], max(2 * p_values[1], p_values[2])]
    )
    assert [one.shows_difference for one in family[1:4]] == [True, True, False]
    assert [one.shows_difference for one in after[1:4]] == [True, False, False]
    assert np.isnan(family[4].p_value)
    assert mean_interval([1.0, 1.0]).p_value == 0.0
    assert mean_interval([0.0, 0.0]).p_value == 1.0


def test_interval_equals_scipys():
    values = np.random.default_rng(0).normal(size=9)
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert interval.seeds == 9


def test_paired_interval_excludes_zero_exactly_where_the_paired_t_test_rejects():
    generator = np.random.default_rng(1)
    verdicts = set()
    for _ in range(50):
        a, b = generator.normal(0.8, 1, 6), generator.normal(size=6)
        interval = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
        rejects = stats.ttest_rel(a, b).pvalue < 0.05
        assert interval.shows_difference == rejects
        verdicts.add(rejects)
    assert verdicts == {True, False}


def test_pairing_uses_the_seeds_that_both_have():
    interval = paired_difference({1: 2.0, 2: 3.0, 9: 100.0}, {2: 1.0, 1: 1.0, 5: 7.0})
    assert interval.mean == 1.5
    assert interval.seeds == 2


def test_one_seed_has_no_interval_and_shows_nothing():
    interval = mean_interval([0.7, np.nan])
    assert interval.mean == 0.7
    assert np.isnan(interval.low)
    assert not interval.shows_difference
    assert mean_interval([]).seeds == 0


def test_the_interval_covers_the_truth_as_often_as_it_says():
    samples = np.random.default_rng(2).normal(size=(2000, 5))
    covered = np.mean([interval.low < 0 < interval.high for interval in map(mean_interval, samples)])
    assert abs(covered - 0.95) < 0.02  # four standard errors


def test_band_is_the_interval_at_every_point():
    curves = np.random.default_rng(3).normal(size=(7, 4))
    mean, low, high = band(curves)
    for column in range(4):
        interval = mean_interval(curves[:, column])
        assert (mean[column], low[column], high[column]) == pytest.approx((interval.mean, interval.low, interval.high))
    mean, low, high = band(curves[:1])
    assert (low == mean).all() and (high == mean).all()


def test_area_under_a_line_is_its_mean_height():
    assert area_under_curve([0, 10, 40], [0, 10, 40]) == pytest.approx(20)
    assert area_under_curve([5], [3]) == 3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_slope_of_a_power_law_is_its_power(power):
    steps = np.arange(0, 1001, 50)
    curves = np.array([[0.5], [1.0], [3.0]]) * steps**power
    slope = log_log_slope(steps, curves)
    assert (slope.slope, slope.low, slope.high) == pytest.approx((power,) * 3)


def test_slope_looks_at_the_last_half_only():
    steps = np.arange(1, 101)
    curve = np.where(steps < 50, 1.0 * steps, np.sqrt(50.0 * steps))
    assert log_log_slope(steps, [curve]).slope == pytest.approx(0.5)


def test_slope_of_a_logarithm_falls_like_one_over_the_logarithm():
    steps = np.arange(10, 10_001, 10)
    slope = log_log_slope(steps, [np.log(steps)]).slope
    assert 1 / np.log(10_000) < slope < 1 / np.log(5_000)


def walks(generator, replicates):
    """Regret as algorithms have it: jumps for a stretch, at a rate of a replicate's own; its mean is sqrt(t)."""
    steps = np.arange(1, 401)
    expected = np.diff(np.sqrt(np.arange(401)))
    rates = generator.gamma(2.0, 0.5, size=(replicates, 1))
    bursts = np.repeat(generator.exponential(size=(replicates, 20)), 20, axis=1)
    return steps[19::20], np.cumsum(rates * bursts * expected, axis=1)[:, 19::20]


def test_slope_interval_covers_the_truth_and_least_squares_errors_do_not():
    generator = np.random.default_rng(4)
    covered, naive = [], []
    for number in range(400):
        steps, curves = walks(generator, 20)
        slope = log_log_slope(steps, curves, resamples=500, seed=number)
        covered.append(slope.low <= 0.5 <= slope.high)
        half = steps >= steps[-1] / 2
        fit = stats.linregress(np.log(steps[half]), np.log(curves.mean(axis=0)[half]))
        naive.append(abs(fit.slope - 0.5) <= stats.t.ppf(0.975, half.sum() - 2) * fit.stderr)
    assert 0.91 <= np.mean(covered) <= 0.98
    assert np.mean(naive) < 0.6


def test_slope_is_missing_where_it_means_nothing():
    assert np.isnan(log_log_slope([100], [[1.0]]).slope)
    assert np.isnan(log_log_slope([50, 100], [[0.0, 0.0]]).slope)
    one = log_log_slope([50, 100], [[1.0, 2.0]])
    assert one.slope == pytest.approx(1.0)
    assert np.isnan(one.low)


@pytest.mark.parametrize(("seeds", "members"), [(8, 1), (20, 5), (40, 3)])
def test_what_would_mostly_be_seen_is_seen_in_four_of_five_repetitions(seeds, members):
    rng = np.random.default_rng(3)
    family = [mean_interval(stats.norm.ppf((np.arange(seeds) + 0.5) / seeds))] * members
    error = family[0].half_width / stats.t.ppf(0.975, seeds - 1)  # all members have the same
    least = detectable(family)
    deviation = error * np.sqrt(seeds)
    samples = rng.normal(least, deviation, (20_000, seeds))
    rejected = stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05 / members
    assert rejected.mean() == pytest.approx(0.8, abs=0.012)  # four standard errors


def test_what_is_seen_grows_with_the_family_and_is_known_for_two_seeds():
    one, two = mean_interval([0.0, 1.0, 3.0]), mean_interval([0.0, 1.0])
    assert 0.0 < detectable([one]) < detectable([one, None, one]) < detectable([two]) < np.inf
    assert np.isnan(detectable([None, mean_interval([1.0]), mean_interval([2.0, 2.0])]))
    assert family_text(1) == "" and "6 comparisons" in family_text(6)
