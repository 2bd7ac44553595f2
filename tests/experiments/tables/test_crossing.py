"""When a curve has reached a level for good: against scipy, by hand, and at the edges."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from duelenv.experiments.tables.crossing import isotonic, plateau_of, reached, target_of

LABELS = np.array([0.0, 10.0, 20.0, 30.0, 40.0])


def test_the_fit_is_scipys_for_every_curve():
    curves = np.random.default_rng(0).normal(size=(3, 400, 13)).cumsum(axis=-1)  # more curves than are taken at a time
    slow = [isotonic_regression(curve).x for curve in curves.reshape(-1, 13)]
    np.testing.assert_allclose(isotonic(curves).reshape(-1, 13), slow, atol=1e-9)


def test_a_rising_curve_is_its_own_fit_and_a_falling_one_its_mean():
    rising = np.array([[0.1, 0.2, 0.2, 0.9]])
    np.testing.assert_allclose(isotonic(rising), rising, atol=1e-15)
    np.testing.assert_allclose(isotonic(rising[:, ::-1]), np.full((1, 4), 0.35))


def test_the_crossing_is_on_the_straight_line_between_evaluations():
    curve = np.array([0.5, 0.5, 0.7, 0.9, 0.9])
    assert reached(LABELS, curve, 0.8) == pytest.approx(25.0)
    assert reached(LABELS, curve, 0.55) == pytest.approx(12.5)


def test_a_passing_peak_is_no_crossing():
    # Up at 10, down until 30: the mean of the four is below, so it counts only when the curve is up for good.
    curve = np.array([0.5, 0.9, 0.5, 0.5, 0.9])
    fit_before = (0.9 + 0.5 + 0.5) / 3
    expected = 30 + 10 * (0.8 - fit_before) / (0.9 - fit_before)
    assert reached(LABELS, curve, 0.8) == pytest.approx(expected)


def test_never_is_infinity_and_a_curve_that_starts_there_needs_nothing():
    curves = np.array([[0.5, 0.6, 0.6, 0.7, 0.7], [0.5, 0.6, 0.6, 0.7, 0.7]])
    np.testing.assert_array_equal(reached(LABELS, curves, [0.71, 0.5]), [np.inf, 0.0])


def test_a_curve_that_ends_flat_is_flat_and_one_that_rises_is_not():
    noise = np.random.default_rng(1).normal(scale=0.01, size=(12, 41))
    labels = np.arange(41) * 10.0
    flat = plateau_of(labels, 0.9 + noise)
    assert flat.flat
    assert flat.height == pytest.approx(0.9, abs=0.01)
    rising = plateau_of(labels, 0.001 * labels + noise)
    assert not rising.flat
    assert rising.slope.mean == pytest.approx(0.001, rel=0.1)
    assert not plateau_of(labels, 0.9 + noise[:1]).flat  # one seed shows nothing


def test_the_target_is_a_share_of_the_way_to_the_last_quarter():
    curve = np.array([0.5, 0.6, 0.7, 0.8, 1.0])  # the last quarter of 0 .. 40 begins at 30
    assert target_of(LABELS, curve, 0.9) == pytest.approx(0.5 + 0.9 * (0.9 - 0.5))
