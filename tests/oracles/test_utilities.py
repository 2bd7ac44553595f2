"""Hidden utilities over features against slow loops, and their independence across replicates."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError
from duelenv.oracles.utilities import LinearUtility, make_utility


def generators(count):
    return [np.random.default_rng([7, index]) for index in range(count)]


def features(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_matches_a_slow_loop(dtype):
    utility = make_utility("linear", generators(3), dim=5, scale=2.0)
    assert isinstance(utility, LinearUtility)
    x = features((3, 2, 4, 5), dtype)
    values = utility(x)
    assert values.shape == (3, 2, 4) and values.dtype == dtype
    for r, b, k in np.ndindex(3, 2, 4):
        slow = sum(float(t) * float(v) for t, v in zip(utility.theta[r], x[r, b, k], strict=True))
        assert_allclose(values[r, b, k], slow, rtol=1e-5, atol=1e-6)


def test_linear_has_the_wanted_norm():
    utility = make_utility("linear", generators(50), dim=10, scale=3.0)
    assert_allclose(np.linalg.norm(utility.theta, axis=1), 3.0)


def test_linear_direction_is_uniform_on_average():
    theta = make_utility("linear", generators(4000), dim=3, scale=1.0).theta
    # Mean 0 and covariance I / 3, to five standard errors.
    assert_allclose(theta.mean(axis=0), 0.0, atol=5 * np.sqrt(1 / 3 / 4000))
    assert_allclose(theta.T @ theta / 4000, np.eye(3) / 3, atol=0.03)


@pytest.mark.parametrize("dim", [2, 10])
def test_mlp_is_standardised(dim):
    utility = make_utility("mlp", generators(6), dim=dim, scale=2.5)
    values = utility(features((6, 20_000, 1, dim), seed=1))[..., 0]
    assert values.dtype == np.float32
    assert_allclose(values.std(axis=1), 2.5, rtol=0.06)
    assert_allclose(values.mean(axis=1), 0.0, atol=0.15)


def test_mlp_is_not_linear():
    utility = make_utility("mlp", generators(8), dim=3, scale=1.0)
    x = features((8, 2000, 1, 3), seed=2)
    values = utility(x)[..., 0]
    for r in range(8):
        design = np.c_[x[r, :, 0], np.ones(2000)]
        residual = values[r] - design @ np.linalg.lstsq(design, values[r])[0]
        assert residual.var() > 0.1


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_replicates_are_independent_and_do_not_depend_on_their_number(name):
    many = make_utility(name, generators(8), dim=4, scale=1.0)
    few = make_utility(name, generators(3), dim=4, scale=1.0)
    x = features((8, 2, 5, 4))
    assert_array_equal(many(x)[:3], few(x[:3]))
    same = many(np.broadcast_to(x[:1], x.shape))
    assert len({float(value) for value in same[:, 0, 0]}) == 8


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_candidates_do_not_influence_each_other(name):
    utility = make_utility(name, generators(2), dim=4, scale=1.0)
    x = features((2, 3, 5, 4))
    order = np.array([3, 1, 0, 4, 2])
    assert_allclose(utility(x[:, :, order]), utility(x)[:, :, order], rtol=1e-5, atol=1e-6)
    assert_allclose(utility(x[:, 1:2]), utility(x)[:, 1:2], rtol=1e-5, atol=1e-6)


def test_scale_zero_is_indifferent():
    assert not make_utility("linear", generators(2), 3, 0.0)(features((2, 1, 4, 3))).any()
    assert not make_utility("mlp", generators(2), 3, 0.0)(features((2, 1, 4, 3))).any()


def test_linear_is_fast():
    """The target is 40 microseconds; the bound leaves room for a loaded machine."""
    utility = make_utility("linear", generators(256), dim=10, scale=1.0)
    x = features((256, 1, 10, 10))
    best = np.inf
    for _ in range(200):
        start = time.perf_counter()
        utility(x)
        best = min(best, time.perf_counter() - start)
    assert best < 200e-6


def test_refusals():
    for call, message in {
        lambda: make_utility("cubic", generators(1), 3, 1.0): "utility .cubic. is unknown: choose from ackley, cosine",
        lambda: make_utility("linear", [], 3, 1.0): "generators is empty",
        lambda: make_utility("linear", generators(1), 0, 1.0): "dim is 0",
        lambda: make_utility("linear", generators(1), 3, -1.0): "scale is -1.0",
    }.items():
        with pytest.raises(UserError, match=message):
            call()
    with pytest.raises(ValueError, match="expected"):
        make_utility("linear", generators(2), 3, 1.0)(features((3, 1, 4, 3)))


@pytest.mark.parametrize("name", ["linear_gaussian", "linear_sparse", "gp", "ackley", "cosine"])
def test_other_families_keep_replicates_and_candidates_apart(name):
    many = make_utility(name, generators(6), dim=4, scale=1.5)
    few = make_utility(name, generators(2), dim=4, scale=1.5)
    x = features((6, 2, 5, 4))
    assert many(x).shape == (6, 2, 5)
    assert_array_equal(many(x)[:2], few(x[:2]))
    order = np.array([3, 1, 0, 4, 2])
    assert_allclose(many(x[:, :, order]), many(x)[:, :, order], rtol=1e-4, atol=1e-4)
    same = many(np.broadcast_to(x[:1], x.shape))
    assert len({float(value) for value in same[:, 0, 0]}) == 6
    assert np.isfinite(many(1e3 * x)).all()


def test_gaussian_theta_has_the_wanted_deviation():
    theta = make_utility("linear_gaussian", generators(4000), dim=5, scale=0.1).theta
    assert_allclose(theta.std(axis=0), 0.1, rtol=0.06)


def test_sparse_theta_has_two_positive_coordinates():
    theta = make_utility("linear_sparse", generators(50), dim=5, scale=2.0).theta
    assert_allclose(np.linalg.norm(theta, axis=1), 2.0)
    assert (theta[:, :2] > 0).all() and not theta[:, 2:].any()
    assert_allclose(make_utility("linear_sparse", generators(3), dim=1, scale=2.0).theta, 2.0)


def test_gp_draws_have_the_kernel():
    """Covariance over draws: scale^2 exp(-|x - y|^2 / 2), to five standard errors."""
    utility = make_utility("gp", generators(4000), dim=2, scale=2.0)
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, -1.5], [4.0, 4.0]], np.float32)
    values = utility(np.broadcast_to(points, (4000, 1, 4, 2)))[:, 0]
    square = ((points[:, None] - points) ** 2).sum(-1)
    assert_allclose(values.T @ values / 4000, 4.0 * np.exp(-square / 2), atol=5 * 4.0 * np.sqrt(2 / 4000))


def test_ackley_has_its_peak_at_the_centre():
    utility = make_utility("ackley", generators(3), dim=4, scale=0.5)
    x = utility.centre[:, None, None, :] + np.concatenate([np.zeros((1, 1, 1, 4)), features((1, 1, 50, 4))], axis=2)
    values = utility(x)
    assert_allclose(values[:, 0, 0], 0.0, atol=1e-12)
    assert (values[:, 0, 1:] < 0).all()
    y = x[1, 0, 7] - utility.centre[1]
    slow = 20 * np.exp(-0.2 * np.sqrt((y**2).mean())) + np.exp(np.cos(2 * np.pi * y).mean()) - 20 - np.e
    assert_allclose(values[1, 0, 7], 0.5 * slow)


def test_cosine_is_bounded_and_bends():
    utility = make_utility("cosine", generators(3), dim=4, scale=1.5)
    x = features((3, 1, 200, 4))
    values = utility(x)
    assert np.abs(values).max() <= 1.5
    assert_allclose(values, utility(-x), rtol=1e-5, atol=1e-6)
    assert_allclose(values[0, 0, 0], 1.5 * np.cos(3.0 * x[0, 0, 0] @ utility.theta[0]), rtol=1e-4)
