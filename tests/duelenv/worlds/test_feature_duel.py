"""FeatureDuel's candidates: each kind has the distribution its name says, within the declared space."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from worlds import make_vector

import duelenv
from duelenv.labels.coins import FEEDBACK
from duelenv.oracles.links import LINKS
from duelenv.oracles.utilities import UTILITIES
from duelenv.worlds.feature_duel import CANDIDATES, FeatureDuelVectorEnv

WORLD = "duelenv/FeatureDuel-v0"


def features(**settings):
    env = make_vector(WORLD, 64, **settings)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    return observation["features"]


@pytest.mark.parametrize("candidates", ["gaussian", "hypercube", "sphere", "uniform", "corners"])
def test_feature_scale_multiplies_whatever_is_drawn(candidates):
    size = {"num_candidates": 8, "dim": 3}
    one, three = (features(candidates=candidates, feature_scale=scale, **size) for scale in (1.0, 3.0))
    np.testing.assert_allclose(three, 3.0 * one, rtol=1e-6)


def test_uniform_candidates_fill_the_cube():
    x = features(candidates="uniform", feature_scale=np.pi, num_candidates=10, dim=10)
    assert np.abs(x).max() < np.pi
    assert abs(x.mean()) < 0.1
    assert x.var() == pytest.approx(np.pi**2 / 3, rel=0.05)


def test_corners_are_all_there_once_in_random_order():
    x = features(candidates="corners", num_candidates=8, dim=3, fixed=True)
    corners = np.where(x > 0, 1, -1)
    noise = x - corners
    assert (noise <= 0).all() and (noise >= -0.1 - 1e-6).all() and noise.std() > 0.02
    places = (corners > 0) @ np.array([1, 2, 4])
    np.testing.assert_array_equal(np.sort(places, axis=1), np.tile(np.arange(8), (64, 1)))
    assert len(np.unique(places, axis=0)) > 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": "corners", "num_candidates": 6, "dim": 3}, "8"),
        ({"feature_scale": 0.0}, "feature_scale is 0"),
        ({"feature_scale": -1.0}, "feature_scale is -1.0"),
        ({"candidates": "cube"}, "cube"),
        ({"utility": "gauss"}, "gauss"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        make_vector(WORLD, 2, **settings)


@pytest.mark.parametrize("utility", ["linear_gaussian", "linear_sparse", "gp", "ackley", "cosine"])
@pytest.mark.parametrize("link", ["logistic", "cloglog"])
def test_every_utility_plays(utility, link):
    env = make_vector(WORLD, 4, utility=utility, link=link)
    env.reset(seed=0)
    *_, info = env.step(np.tile([[0, 1]], (4, 1)))
    assert all((value >= 0).all() for value in info["regret"].values())
    assert env._utilities.dtype == np.float64


def test_the_docstring_describes_every_setting():
    for name in inspect.signature(FeatureDuelVectorEnv).parameters:
        assert re.search(rf"^ *{name}: ", FeatureDuelVectorEnv.__doc__, re.MULTILINE), name


def test_the_docstring_names_every_choice():
    for name in (*UTILITIES, *LINKS, *CANDIDATES, *FEEDBACK):
        assert f'"{name}"' in FeatureDuelVectorEnv.__doc__, name
