"""The check of beliefs: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import numpy as np
import pytest

from duelenv.agents.beliefs.ensemble import DeepEnsemble
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.testing import (
    CheckFailed,
    check_belief,
)


def linear(dim, replicates, batch, seed, kind=LinearLogistic, **settings):
    return kind(dim, replicates=replicates, batch=batch, root=seed, settings=LinearLogisticSettings(**settings))


def test_beliefs_of_the_project_pass():
    check_belief(linear)
    check_belief(lambda *sizes: linear(*sizes, estimator="laplace"))
    check_belief(lambda dim, replicates, batch, seed: DeepEnsemble(dim, batch=batch, root=seed), replicates=1)


class Certain(LinearLogistic):
    def sample(self, features, num_samples):
        return np.repeat(self.mean(features)[np.newaxis], num_samples, axis=0)


class Reversed(LinearLogistic):
    def update(self, first, second, labels):
        return super().update(first, second, 1.0 - labels)


class Deaf(LinearLogistic):
    """A tie counts as a win."""

    def update(self, first, second, labels):
        return super().update(first, second, np.where(labels == 0.5, 1.0, labels))


class Guessing(LinearLogistic):
    """No label counts as a win."""

    def update(self, first, second, labels):
        return super().update(first, second, np.where(np.isnan(labels), 1.0, labels))


class OneSided(LinearLogistic):
    def update(self, first, second, labels):
        return super().update(first, second, np.where(labels == 0.0, 0.4, labels))


class Shifted(LinearLogistic):
    def sample(self, features, num_samples):
        return super().sample(features, num_samples) + features[..., 0] * 2


class Widening(LinearLogistic):
    def update(self, first, second, labels):
        told = super().update(first, second, labels)
        self.root_covariance *= 1.2
        return told


class ShrinkingAllOver(LinearLogistic):
    def update(self, first, second, labels):
        before = self.root_covariance.copy()
        told = super().update(first, second, labels)
        self.root_covariance = before * 0.9
        return told


class Forgetful(LinearLogistic):
    def state_dict(self):
        return super().state_dict() | {"theta": np.zeros_like(self.theta)}


class Drawing(LinearLogistic):
    def mean(self, features):
        self.theta += 1e-3
        return super().mean(features)


class Positional(LinearLogistic):
    def mean(self, features):
        return super().mean(features) + np.arange(features.shape[1]) * 0.1


class Independent(LinearLogistic):
    """Draws each candidate by itself."""

    def sample(self, features, num_samples):
        draws = super().sample(features, num_samples)
        return draws + np.random.default_rng(int(abs(draws).sum() * 1e6) % 2**31).normal(size=draws.shape) * 0.1


class Mixing(LinearLogistic):
    def update(self, first, second, labels):
        told = super().update(first, second, labels)
        self.theta[:] = self.theta.mean(axis=0)
        return told


class Flat(LinearLogistic):
    def mean(self, features):
        return super().mean(features)[0]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Certain, "nothing is uncertain"),
        (Reversed, "not believed better"),
        (Deaf, "four ties moved the belief as far as four wins"),
        (Guessing, "duels without a label changed what is believed"),
        (OneSided, "not believed better|expected the same"),
        (Shifted, "standard errors from the gap of the mean"),
        (Widening, "expected that it never grows"),
        (ShrinkingAllOver, "shrinks more on the data"),
        (Forgetful, "goes on from a state"),
        (Drawing, "mean changed what is drawn"),
        (Positional, "depends on its position"),
        (Independent, "equal candidates differ"),
        (Mixing, "labels of one replicate changed the belief of another"),
        (Flat, "sample gives shape"),
    ],
)
def test_wrong_beliefs_fail(kind, message):
    with pytest.raises(CheckFailed, match=message):
        check_belief(lambda *sizes: linear(*sizes, kind=kind))
