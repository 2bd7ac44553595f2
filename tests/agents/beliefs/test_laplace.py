"""Last-layer Laplace: its posterior against one worked out slowly, its fitted prior, its span, its draws, resuming."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from duelenv.agents.beliefs.base import Belief
from duelenv.agents.beliefs.laplace import LaplaceSettings, LastLayerLaplace
from duelenv.agents.beliefs.standardiser import Standardiser
from duelenv.ground.errors import UserError
from duelenv.testing import CheckFailed, check_belief

DIM, ROWS = 5, 3


def make(root=0, batch=ROWS, **settings):
    return LastLayerLaplace(DIM, batch=batch, root=root, settings=LaplaceSettings(**settings))


def settled(**settings):
    """One whose standardisation moves no more."""
    belief = make(**settings)
    belief.sample(np.random.default_rng(9).normal(size=(ROWS, 100, DIM)) * 3.0 + 1.0, 1)
    return belief


def utility(features):
    return 2 * np.sin(features[..., 0]) + features[..., 1] - features[..., 2]


def duels(count, seed=0):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, count, DIM)) * 3.0 + 1.0
    labels = (rng.random(count) < expit(utility(first) - utility(second))).astype(float)
    labels[:2] = 0.5, np.nan
    return first, second, labels


def slow_posterior(belief, first, second, labels, precision):
    """Mode by a general optimiser over all D weights, covariance by inverting the Hessian written out duel by duel."""
    known = ~np.isnan(labels)
    gaps, labels = (belief._layer(first) - belief._layer(second))[known], labels[known]

    def objective(w):
        p = expit(gaps @ w)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = -np.nansum(labels * np.log(p) + (1 - labels) * np.log1p(-p)) + precision / 2 * w @ w
        return loss, gaps.T @ (p - labels) + precision * w

    mode = minimize(objective, np.zeros(gaps.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    hessian = precision * np.eye(len(mode))
    for gap in gaps:
        p = expit(gap @ mode)
        hessian += p * (1 - p) * np.outer(gap, gap)
    return mode, np.linalg.inv(hessian)


# The posterior -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [6, 60])  # fewer duels than weights, and more
@pytest.mark.parametrize("units", [0, 12])
def test_mode_and_covariance_are_those_worked_out_slowly(count, units):
    belief = settled(units=units, prior_strength=None, prior_precision=0.7)
    told = duels(count)
    belief.update(*told)
    mode, covariance = slow_posterior(belief, *told, 0.7)
    features = np.random.default_rng(1).normal(size=(ROWS, 4, DIM))
    psi = belief._layer(features)
    np.testing.assert_allclose(belief.mean(features), psi @ mode, atol=1e-5)
    draws = belief.sample(features, 40_000)
    for row in range(ROWS):
        expected = psi[row] @ covariance @ psi[row].T
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.abs(np.cov(draws[:, row].T) - expected).max() < 0.04 * scale.max()
        np.testing.assert_allclose(draws[:, row].mean(0), psi[row] @ mode, atol=5 * np.sqrt(scale.max() / 40_000))


def test_before_any_label_there_is_the_prior():
    belief = make(units=4000, prior_precision=0.5)
    features = np.random.default_rng(1).normal(size=(ROWS, 100, DIM))
    draws = belief.sample(features, 300)
    assert draws.var() == pytest.approx(2 / 0.5, rel=0.1)
    assert np.abs(draws.mean(0)).max() < 1.0
    np.testing.assert_array_equal(belief.mean(features), 0.0)


def test_all_labels_count_in_whatever_order_they_come():
    first, second, labels = duels(40)
    features = np.random.default_rng(1).normal(size=(ROWS, 4, DIM))
    means = []
    for order in (np.arange(40), np.arange(40)[::-1]):
        belief = settled(prior_strength=None)
        for some in np.split(order, 8):
            belief.update(first[some], second[some], labels[some])
        assert belief.num_labels == 39
        means.append(belief.mean(features))
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)


def test_the_units_see_what_is_not_linear():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, 200, DIM))
    truth = 3 * np.abs(features[..., 0])
    losses = []
    for units in (0, 256):
        belief = make(units=units)
        for _ in range(10):
            first, second = rng.normal(size=(2, 100, DIM))
            margin = 3 * (np.abs(first[:, 0]) - np.abs(second[:, 0]))
            belief.update(first, second, expit(margin))
        losses.append(np.corrcoef(belief.mean(features).ravel(), truth.ravel())[0, 1])
    assert losses[0] < 0.3
    assert losses[1] > 0.9


# The prior -----------------------------------------------------------------------------------------------------------


def log_evidence(gaps, labels, precision, strength, start):
    """Laplace's log evidence plus the Gamma prior of the precision, with its mode and Hessian worked out here."""
    w = np.zeros(gaps.shape[1])
    for _ in range(100):
        p = expit(gaps @ w)
        hessian = (gaps.T * (p * (1 - p))) @ gaps + precision * np.eye(len(w))
        w = w - np.linalg.solve(hessian, gaps.T @ (p - labels) + precision * w)
    margins = gaps @ w
    fit = (labels * margins - np.logaddexp(0, margins)).sum() - precision / 2 * w @ w
    evidence = fit + len(w) / 2 * np.log(precision) - np.linalg.slogdet(hessian)[1] / 2
    return evidence + strength / 2 * np.log(precision) - strength / (2 * start) * precision


@pytest.mark.parametrize("strength", [0.5, 10.0])
@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_the_fitted_precision_is_where_the_evidence_is_largest(scale, strength):
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 300, DIM))
    labels = expit(scale * (utility(first) - utility(second)))
    belief = make(units=0, prior_strength=strength, prior_precision=0.5)
    for _ in range(20):
        belief.update(first, second, labels if belief.num_labels == 0 else np.full(300, np.nan))
    gaps = belief._layer(first) - belief._layer(second)
    found = belief.prior_precision
    values = [log_evidence(gaps, labels, found * factor, strength, 0.5) for factor in (0.8, 1.0, 1.25)]
    assert values[1] > values[0]
    assert values[1] > values[2]


def test_larger_utilities_are_given_a_wider_prior():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 300, DIM))
    precisions = []
    for scale in (0.2, 1.0, 5.0):
        belief = make()
        belief.update(first, second, expit(scale * (utility(first) - utility(second))))
        precisions.append(belief.prior_precision)
    assert precisions == sorted(precisions, reverse=True)
    fixed = make(prior_strength=None)
    assert fixed.update(first, second, np.ones(300))["prior_precision"] == 0.5


# As every belief -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"prior_strength": None}, {"units": 0}, {"units": 8}])
def test_it_passes_the_check(settings):
    check_belief(
        lambda dim, replicates, batch, seed: LastLayerLaplace(
            dim, batch=replicates * batch, root=seed, settings=LaplaceSettings(**settings)
        ),
        replicates=1,
    )
    assert isinstance(make(), Belief)


def test_a_prior_that_labels_alone_fit_grows_wider_and_the_check_says_so():
    settings = LaplaceSettings(prior_strength=1e-9)
    with pytest.raises(CheckFailed, match="never grows"):
        check_belief(lambda d, r, b, seed: LastLayerLaplace(d, batch=r * b, root=seed, settings=settings), replicates=1)


def test_it_goes_on_where_its_state_was_taken():
    one, other = make(), make()
    one.update(*duels(20))
    one.sample(np.zeros((ROWS, 2, DIM)), 3)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for belief in (one, other):
        belief.update(*duels(20, seed=4))
    features = np.random.default_rng(1).normal(size=(ROWS, 4, DIM))
    np.testing.assert_array_equal(one.sample(features, 5), other.sample(features, 5))


def test_more_labels_than_weights_and_fewer_agree_at_the_border():
    """D = 13 weights: 12 duels span less, 13 all; one more duel without information changes nothing."""
    first, second, labels = duels(14, seed=3)
    labels = np.where(np.isnan(labels), 1.0, labels)
    twin = np.concatenate([first[:12], first[:2]]), np.concatenate([second[:12], first[:2]])  # against themselves
    features = np.random.default_rng(1).normal(size=(ROWS, 4, DIM))
    found = []
    for one, two in ((first[:12], second[:12]), twin):
        belief = settled(units=8, prior_strength=None)
        belief.update(one, two, labels[: len(one)])
        found.append((belief.mean(features), belief.sample(features, 20_000).std(0)))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(units=-1), "units is -1"),
        (lambda: make(prior_precision=0.0), "prior_precision is 0"),
        (lambda: make(prior_strength=0.0), "prior_strength is 0"),
        (lambda: make().sample(np.zeros((2, 3, DIM)), 1), "was given 2 rows; give the 3"),
        (lambda: make().mean(np.zeros((ROWS, 3, 4))), "the last axis must be 5"),
        (lambda: make().update(np.zeros((2, DIM)), np.zeros((2, DIM)), np.array([0.0, 2.0])), "labels range from"),
        (lambda: make(units=3).load_state_dict(make(units=4).state_dict()), "has 9 weights, this one 8"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()


# The standardiser ----------------------------------------------------------------------------------------------------


def test_the_standardiser_takes_the_moments_of_what_came_first():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(300, DIM)) * [1, 10, 0.01, 5, 0] + [0, 3, 0, -50, 7]
    standardiser = Standardiser(DIM)
    assert [standardiser.observe(part) for part in (seen[:100], seen[100:256], seen[256:])] == [True, True, False]
    first = seen[:256]
    expected = (seen - first.mean(0)) / np.where(first.std(0) > 1e-9, first.std(0), np.inf)
    np.testing.assert_allclose(standardiser(seen), expected, atol=1e-9)
    assert not standardiser(seen)[:, 4].any()  # what never varied tells nothing
