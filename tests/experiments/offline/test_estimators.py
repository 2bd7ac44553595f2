"""Values by inverse propensities, doubly robust and by a model, against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from logged import World, exact_log

from duelenv.experiments.offline.estimators import Settings, estimate, weights
from duelenv.experiments.offline.log import DuelLog
from duelenv.experiments.offline.outcomes import bradley_terry, cross_fitted
from duelenv.ground.errors import UserError

CHANCES = np.array([[0.5, 0.75, 0.25], [0.25, 0.5, 1.0], [0.75, 0.0, 0.5]])
BORDA = np.array([0.5, 0.625, 0.375])  # row means without the diagonal


def constant(*_):
    """A model that knows nothing, and is not even symmetric."""
    return lambda features: np.full((len(features), features.shape[1], features.shape[1]), 0.9)


def by_name(log, target, settings=None, **rest):
    return {one.name: one for one in estimate(log, np.asarray(target, float), settings, **rest)}


@pytest.mark.parametrize(
    "shares",
    [
        {(0, 1): 1, (0, 2): 1, (1, 2): 1, (1, 0): 1, (2, 0): 1, (2, 1): 1},
        {(0, 1): 3, (0, 2): 1, (1, 2): 4, (0, 0): 2},  # one order only, and a candidate against itself
    ],
)
@pytest.mark.parametrize("pi", [(1, 0, 0), (0, 1, 0), (0.25, 0.25, 0.5)])
def test_expectations_are_exact(shares, pi):
    """A log in which all comes as often as expected gives V exactly, whatever the model of DR."""
    log = exact_log(CHANCES, shares, repeats=4)
    found = by_name(log, np.tile(pi, (len(log), 1)), fit=constant)
    value = float(np.dot(pi, BORDA))
    assert [found[name].value for name in ("IPS", "SNIPS", "DR")] == pytest.approx([value] * 3)
    assert found["model"].value == pytest.approx(0.9)
    assert sum(weights(log, np.tile(pi, (len(log), 1)).astype(float))).mean() == pytest.approx(1.0)


def test_two_rounds_by_hand():
    """K = 3, the target recommends 0: a weight is 1 / (2 q) where 0 was played, in either place, and else 0."""
    pairs = np.array([[0, 1], [2, 0], [1, 2], [0, 0]] * 5)
    labels = np.array([1.0, 0.0, 1.0, 0.5] * 5)
    log = DuelLog(np.zeros((20, 3, 1), np.float32), pairs, labels, np.array([0.25, 0.4, 0.35, 0.1] * 5))
    first, second = weights(log, np.tile([1.0, 0.0, 0.0], (20, 1)))
    assert first[:4] == pytest.approx([2.0, 0.0, 0.0, 0.0])
    assert second[:4] == pytest.approx([0.0, 1.25, 0.0, 0.0])
    found = by_name(log, np.tile([1, 0, 0], (20, 1)))
    assert found["IPS"].value == pytest.approx((2.0 + 1.25) / 4)
    assert found["SNIPS"].value == pytest.approx(1.0)
    assert found["IPS"].effective == pytest.approx(5 * 3.25**2 / (2.0**2 + 1.25**2))
    assert "9 effective rounds are few" in found["IPS"].caution
    clipped = by_name(log, np.tile([1, 0, 0], (20, 1)), Settings(clip=1.5))
    assert clipped["IPS"].value == pytest.approx((1.5 + 1.25) / 4)
    assert clipped["IPS"].bias == pytest.approx(0.5 / 4)
    assert np.isnan(clipped["SNIPS"].bias)


@pytest.fixture(scope="module")
def many():
    """Errors, interval hits and lengths over many logs, by model and estimator: [logs, 3]."""
    found = {}
    for seed in range(300):
        world = World(seed, skew=0.5 * (seed % 2))
        log = world.log(300)
        target = np.eye(4)[(log.features @ (world.theta + world.generator.normal(size=3))).argmax(axis=1)]
        value = world.value(log.features, target)
        for model, fit in (("true", world.fit), ("constant", constant)):
            for one in estimate(log, target, fit=fit):
                row = one.value - value, one.low <= value <= one.high, one.high - one.low
                found.setdefault((model, one.name), []).append(row)
    return {key: np.array(rows) for key, rows in found.items()}


@pytest.mark.parametrize("name", ["IPS", "SNIPS", "DR"])
@pytest.mark.parametrize("model", ["true", "constant"])
def test_no_bias_and_intervals_that_cover(many, name, model):
    errors, hits, _ = many[model, name].T
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors))
    assert abs(hits.mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / len(hits)) + 0.01  # normal theory, 300 rounds


def test_a_good_model_makes_dr_more_precise_and_a_bad_one_is_wrong_alone(many):
    deviation = {key: rows[:, 0].std() for key, rows in many.items()}
    assert deviation["true", "DR"] < 0.7 * deviation["true", "IPS"]
    assert abs(many["constant", "model"][:, 0].mean()) > 0.05
    lengths = {key: rows[:, 2].mean() for key, rows in many.items()}
    assert lengths["true", "DR"] < 0.7 * lengths["true", "IPS"]


def test_the_bootstrap_agrees_with_normal_theory():
    world = World(3)
    log = world.log(400)
    target = np.eye(4)[(log.features @ world.theta).argmax(axis=1)]
    normal = by_name(log, target, fit=world.fit)
    drawn = by_name(log, target, Settings(interval="bootstrap"), fit=world.fit)
    for name in ("IPS", "SNIPS", "DR"):
        ends = [(one.low, one.high) for one in (normal[name], drawn[name])]
        assert ends[0] == pytest.approx(ends[1], abs=0.15 * (normal[name].high - normal[name].low))


def test_the_model_is_cross_fitted():
    """A round's own label changes nothing in its prediction, and changes those of other folds."""
    log = World(0).log(40)
    turned = DuelLog(log.features, log.pairs, np.r_[1 - log.labels[:1], log.labels[1:]], log.propensities)
    before, after = (cross_fitted(one, 5, bradley_terry) for one in (log, turned))
    same = (before == after).all(axis=(1, 2))
    assert same.tolist() == [place % 5 == 0 for place in range(40)]
    assert before + before.swapaxes(1, 2) == pytest.approx(1.0)


def test_a_linear_model_finds_a_linear_truth():
    world = World(1)
    log = world.log(3000)
    predicted = cross_fitted(log, 2, bradley_terry)
    assert np.abs(predicted - world.chances(log.features)).mean() < 0.03


def test_what_cannot_be_estimated_is_refused():
    uncovered = exact_log(CHANCES, {(0, 1): 1, (1, 0): 1}, repeats=20)  # 2 is never played
    with pytest.raises(UserError, match=r"weights have the mean 0.500.*does not cover"):
        estimate(uncovered, np.tile([1.0, 0.0, 0.0], (len(uncovered), 1)))
    log = World(0).log(30)
    wrong = DuelLog(log.features, log.pairs, log.labels, log.propensities / 3)
    with pytest.raises(UserError, match="propensities are wrong or the log does not cover"):
        estimate(wrong, np.full((30, 4), 0.25))
    with pytest.raises(UserError, match="sum of 1"):
        estimate(log, np.ones((30, 4)))
    with pytest.raises(UserError, match="9 rounds have a label, expected at least 10"):
        estimate(log.take(np.arange(9)), np.full((9, 4), 0.25))
    for value, message in ((0.0, "propensity 0,"), (1.5, "propensity 1.5,"), (np.nan, "propensity nan")):
        with pytest.raises(UserError, match=message):
            DuelLog(log.features, log.pairs, log.labels, np.r_[value, log.propensities[1:]])
    for settings in ({"clip": 0}, {"interval": "t"}, {"folds": 1}, {"confidence": 1.0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Settings(**settings)
