"""Linear-logistic belief: the exact maximum, the covariance of draws, symmetries, and independence of replicates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from duelenv.agents.beliefs.base import Belief
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings, _implicit_residual
from duelenv.ground.errors import UserError

ESTIMATORS = ["online", "laplace"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make(dim=3, replicates=2, batch=1, root=0, **settings):
    return LinearLogistic(
        dim, replicates=replicates, batch=batch, root=root, settings=LinearLogisticSettings(**settings)
    )


def duels(rounds, rows, dim=3, scale=1.5, seed=0):
    """Features [T, N, d] twice and Bernoulli labels [T, N] of a linear utility of norm `scale` shared by all rows."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=dim)
    theta *= scale / np.linalg.norm(theta)
    first, second = rng.normal(size=(2, rounds, rows, dim))
    labels = (rng.random((rounds, rows)) < sigmoid((first - second) @ theta)).astype(float)
    return first, second, labels


def learn(belief, first, second, labels):
    for data in zip(first, second, labels, strict=True):
        belief.update(*data)
    return belief


def exact(z, y, precision):
    """Regularised maximum and its Hessian by a general-purpose optimiser."""

    def objective(theta):
        m = z @ theta
        return (y * np.logaddexp(0, -m) + (1 - y) * np.logaddexp(0, m)).sum() + precision / 2 * theta @ theta

    def gradient(theta):
        return z.T @ (sigmoid(z @ theta) - y) + precision * theta

    theta = minimize(objective, np.zeros(z.shape[1]), jac=gradient, method="BFGS", options={"gtol": 1e-9}).x
    p = sigmoid(z @ theta)
    return theta, (z.T * (p * (1 - p))) @ z + precision * np.eye(z.shape[1])


def test_is_a_belief():
    assert isinstance(make(), Belief)


@pytest.mark.parametrize(("precision", "scale"), [(1.0, 1.0), (0.01, 8.0)])
def test_laplace_is_the_exact_maximum_and_hessian(precision, scale):
    """Also with few, separable labels and a weak prior, where plain Newton steps overshoot."""
    first, second, labels = duels(12, 2, scale=scale)
    belief = learn(make(estimator="laplace", prior_precision=precision), first, second, labels)
    for r in range(2):
        theta, hessian = exact(first[:, r] - second[:, r], labels[:, r], precision)
        np.testing.assert_allclose(belief.theta[r], theta, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.linalg.inv(belief.covariance[r]), hessian, rtol=1e-5, atol=1e-6)


def test_laplace_from_a_far_start_converges():
    """One refit on many clashing labels at large features, from the prior mean."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 300, 2, 3)) * 30
    labels = rng.integers(2, size=(300, 2)).astype(float)
    belief = make(estimator="laplace", prior_precision=1e-4)
    z = np.moveaxis(first - second, 1, 0)
    belief._refit(z, labels.T, np.ones((2, 300)))
    for r in range(2):
        theta, _ = exact(z[r] / 30, labels[:, r], 1e-4 / 900)
        np.testing.assert_allclose(belief.theta[r], theta / 30, rtol=1e-4, atol=1e-7)


def test_refit_every_gives_the_same_answer_at_a_refit_and_something_close_between():
    first, second, labels = duels(60, 2)
    often = learn(make(estimator="laplace"), first, second, labels)
    seldom = learn(make(estimator="laplace", refit_every=20), first, second, labels)
    np.testing.assert_allclose(seldom.theta, often.theta, atol=1e-7)
    more = duels(7, 2, seed=1)
    learn(often, *more)
    learn(seldom, *more)
    deviation = np.sqrt(np.diagonal(often.covariance, axis1=1, axis2=2))
    assert 0 < (np.abs(seldom.theta - often.theta) / deviation).max() < 0.5


def test_one_online_step_is_the_exact_maximum():
    """With one label the implicit step minimises the true objective, and H is the true Hessian."""
    first, second, labels = duels(1, 5, scale=4)
    belief = learn(make(replicates=5, prior_precision=0.05), first, second, labels)
    for r in range(5):
        theta, hessian = exact(first[:, r] - second[:, r], labels[:, r], 0.05)
        np.testing.assert_allclose(belief.theta[r], theta, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.inv(belief.covariance[r]), hessian, rtol=1e-5, atol=1e-9)


def test_the_scalar_equation_of_a_step_has_its_root_whatever_the_numbers():
    """Certain and uncertain margins, tiny and huge variances, soft and weightless labels, against bisection."""
    rng = np.random.default_rng(5)
    size = 4000
    margin = rng.normal(size=size) * 10 ** rng.uniform(-3, 2.5, size)
    variance = 10 ** rng.uniform(-8, 7, size)
    labels, weights = rng.choice([0.0, 0.3, 0.5, 1.0], size), rng.choice([0.0, 0.01, 1.0, 3.0], size)
    margin[:9], variance[5:14] = 0.0, 0.0
    low, high = -weights, weights.copy()
    for _ in range(80):
        middle = (low + high) / 2
        above = middle > weights * (labels - expit(margin + variance * middle))
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    found = _implicit_residual(margin, variance, labels, weights)
    np.testing.assert_allclose(found, (low + high) / 2, rtol=0, atol=1e-12)


def test_online_converges_to_the_maximum_likelihood():
    """The gap shrinks, to less than a quarter of a posterior deviation; the covariances agree within a tenth."""
    first, second, labels = duels(2000, 16, dim=5)
    online = make(5, 16)
    gaps = []
    for start, stop in ((0, 100), (100, 2000)):
        learn(online, first[start:stop], second[start:stop], labels[start:stop])
        best = make(5, 16, estimator="laplace", refit_every=stop)
        learn(best, first[:stop], second[:stop], labels[:stop])
        difference, hessian = online.theta - best.theta, np.linalg.inv(best.covariance)
        in_deviations = np.sqrt(np.einsum("ri,rij,rj->r", difference, hessian, difference) / 5).mean()
        gaps.append((in_deviations, np.linalg.norm(difference, axis=1).mean()))
        ratio = np.trace(online.covariance @ hessian, axis1=1, axis2=2) / 5
        assert ratio.mean() == pytest.approx(1, abs=0.15 if stop == 100 else 0.1)
    assert gaps[1][0] < 0.25 and gaps[1][1] < 0.3 * gaps[0][1]


def test_covariance_root_stays_the_inverse_hessian_for_thousands_of_labels():
    """Rounding does not add up in the rank-one updates: compared with H summed up directly."""
    rng = np.random.default_rng(0)
    belief = make(4, 1)
    hessian = np.eye(4)
    for _ in range(3000):
        first, second = rng.normal(size=(2, 1, 4))
        belief.update(first, second, rng.integers(2, size=1).astype(float))
        z = (first - second)[0]
        p = sigmoid(z @ belief.theta[0])
        hessian += p * (1 - p) * np.outer(z, z)
    np.testing.assert_allclose(belief.covariance[0] @ hessian, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_draws_have_mean_theta_and_covariance_inverse_hessian(temperature):
    first, second, labels = duels(40, 1)
    belief = learn(make(replicates=1, estimator="laplace", temperature=temperature), first, second, labels)
    _, hessian = exact(first[:, 0] - second[:, 0], labels[:, 0], 1.0)
    theta = belief.sample_parameters(40_000)[0]
    white = (theta - belief.theta[0]) @ np.linalg.cholesky(hessian) / temperature**0.5
    assert np.abs(white.mean(0)).max() < 4 / 200  # standard error 1 / sqrt(40000)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=0.03)


def test_sample_is_joint_over_candidates_and_independent_over_rows():
    """Utilities of one draw come from one theta: equal candidates agree exactly, rows do not."""
    belief = make(replicates=1, batch=2)
    features = np.random.default_rng(0).normal(size=(1, 4, 3)).repeat(2, 0).astype(np.float32)
    features[:, 3] = features[:, 0]
    samples = belief.sample(features, 4000)
    assert samples.shape == (4000, 2, 4)
    assert np.array_equal(samples[..., 0], samples[..., 3])
    assert abs(np.corrcoef(samples[:, 0, 0], samples[:, 1, 0])[0, 1]) < 0.06
    np.testing.assert_allclose(samples[:, 0].std(0), np.linalg.norm(features[0], axis=1), rtol=0.06)


def test_close_to_the_exact_posterior_in_one_dimension():
    """Grid posterior of 200 labels; Laplace errs by O(1/n)."""
    first, second, labels = duels(200, 1, dim=1, scale=0.8)
    grid = np.linspace(-3, 5, 8001)
    margin = (first - second)[:, 0] * grid
    log_density = -(labels * np.logaddexp(0, -margin) + (1 - labels) * np.logaddexp(0, margin)).sum(0) - grid**2 / 2
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = (grid * density).sum()
    deviation = np.sqrt(((grid - mean) ** 2 * density).sum())
    for estimator in ESTIMATORS:
        belief = learn(make(1, 1, estimator=estimator), first, second, labels)
        assert belief.theta[0, 0] == pytest.approx(mean, abs=(0.15 if estimator == "laplace" else 0.4) * deviation)
        assert belief.covariance[0, 0, 0] ** 0.5 == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_win_of_the_first_is_a_loss_of_the_second(estimator):
    first, second, labels = duels(30, 2)
    one = learn(make(estimator=estimator), first, second, labels)
    other = learn(make(estimator=estimator), second, first, 1 - labels)
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-12)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unlabelled_rows_change_nothing(estimator):
    """Masks act per sample: a batch with a NaN row equals the batch without it, even if its features are NaN."""
    first, second, labels = duels(20, 3)  # one replicate, three rows
    masked = make(replicates=1, batch=3, estimator=estimator)
    first_nan, labels_nan = first.copy(), labels.copy()
    first_nan[:, 1], labels_nan[:, 1] = np.nan, np.nan
    learn(masked, first_nan, second, labels_nan)
    without = make(replicates=1, batch=2, estimator=estimator)
    learn(without, first[:, [0, 2]], second[:, [0, 2]], labels[:, [0, 2]])
    np.testing.assert_allclose(masked.theta, without.theta, atol=1e-12)
    np.testing.assert_allclose(masked.covariance, without.covariance, atol=1e-12)
    before = masked.state_dict()
    metrics = masked.update(first[0], second[0], np.full(3, np.nan))
    assert metrics["labels"] == 0 and np.isnan(metrics["log_loss"])
    assert np.array_equal(masked.theta, before["theta"])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unlabelled_replicates_stay_where_they_are(estimator):
    first, second, labels = duels(15, 2)
    labels[:, 1] = np.nan
    belief = learn(make(estimator=estimator), first, second, labels)
    assert np.abs(belief.theta[0]).max() > 0.1
    assert (belief.theta[1] == 0).all()
    np.testing.assert_allclose(belief.covariance[1], np.eye(3), atol=1e-15)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_duel_with_oneself_teaches_nothing(estimator):
    first, _, labels = duels(5, 2)
    belief = learn(make(estimator=estimator), first, first, labels)
    assert (belief.theta == 0).all()
    np.testing.assert_allclose(belief.covariance, np.stack([np.eye(3)] * 2), atol=1e-15)


def test_a_tie_is_half_a_win_each():
    """As a soft target it has the loss of two labels of weight one half."""
    first, second, labels = duels(25, 1)
    tie, halves = (make(replicates=1, estimator="laplace") for _ in range(2))
    for belief in (tie, halves):
        learn(belief, first, second, labels)
    z_first, z_second = first[0] * 3, second[1] * 3
    tie.update(z_first, z_second, np.array([0.5]))
    halves.update(z_first.repeat(2, 0), z_second.repeat(2, 0), np.array([1.0, 0.0]), weights=np.array([0.5, 0.5]))
    np.testing.assert_allclose(tie.theta, halves.theta, atol=1e-8)
    np.testing.assert_allclose(tie.covariance, halves.covariance, atol=1e-8)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_batch_hardly_depends_on_its_order(estimator):
    first, second, labels = duels(20, 16)
    one = learn(make(replicates=1, batch=16, estimator=estimator), first, second, labels)
    order = np.random.default_rng(0).permutation(16)
    other = learn(
        make(replicates=1, batch=16, estimator=estimator), first[:, order], second[:, order], labels[:, order]
    )
    deviation = np.sqrt(np.diagonal(one.covariance[0]))
    tolerance = 1e-6 if estimator == "laplace" else 0.2
    assert (np.abs(one.theta - other.theta)[0] < tolerance * deviation).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_replicate_alone_equals_itself_among_many(estimator):
    """Draws and estimate of the first replicates do not depend on how many others there are."""
    first, second, labels = duels(20, 8)
    features = np.random.default_rng(9).normal(size=(8, 5, 3))
    many = make(replicates=4, batch=2, estimator=estimator)
    few = make(replicates=2, batch=2, estimator=estimator)
    for t in range(20):
        samples = many.sample(features, 2)
        np.testing.assert_allclose(few.sample(features[:4], 2), samples[:, :4], atol=1e-9)
        many.update(first[t], second[t], labels[t])
        few.update(first[t, :4], second[t, :4], labels[t, :4])
    np.testing.assert_allclose(few.theta, many.theta[:2], atol=1e-9)
    np.testing.assert_allclose(few.mean(features[:4]), many.mean(features)[:4], atol=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_resuming_continues_exactly(estimator):
    settings = {"replicates": 2, "batch": 2, "estimator": estimator}
    if estimator == "laplace":
        settings["refit_every"] = 5
    first, second, labels = duels(30, 4)
    features = np.random.default_rng(9).normal(size=(4, 5, 3))
    belief = make(**settings)
    for t in range(13):
        belief.sample(features, 2)
        belief.update(first[t], second[t], labels[t])
    resumed = make(**settings)
    resumed.load_state_dict(belief.state_dict())
    for t in range(13, 30):
        assert np.array_equal(belief.sample(features, 2), resumed.sample(features, 2))
        for one in (belief, resumed):
            one.update(first[t], second[t], labels[t])
    assert np.array_equal(belief.theta, resumed.theta)


def test_log_loss_is_that_of_the_estimate_before_the_labels():
    first, second, _ = duels(1, 2)
    metrics = make().update(first[0], second[0], np.array([1.0, np.nan]))
    assert metrics["labels"] == 1 and metrics["log_loss"] == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    "settings",
    [{"prior_precision": 0.0}, {"temperature": np.nan}, {"estimator": "mle"}, {"refit_every": 0}, {"refit_every": 2}],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        LinearLogisticSettings(**settings)


def test_bad_data_are_refused():
    belief = make()
    x = np.zeros((2, 3))
    with pytest.raises(UserError, match=r"labels range from 0.0 to 2.0"):
        belief.update(x, x, np.array([2.0, 0.0]))
    with pytest.raises(UserError, match="given 4 rows; give the 2 of the batch"):
        belief.sample(np.zeros((4, 2, 3)), 2)
    with pytest.raises(UserError, match="multiple of 2 rows"):
        belief.mean(np.zeros((3, 4, 3)))
    with pytest.raises(UserError, match="first, second and labels"):
        belief.update(x, x, np.zeros(3))
    with pytest.raises(UserError, match="another estimator"):
        belief.load_state_dict(make(estimator="laplace").state_dict())
    with pytest.raises(UserError, match="make it alike"):
        belief.load_state_dict(make(dim=4).state_dict())
