"""Links as functions: increasing, symmetric, and right where they have a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from duelenv.oracles.links import LINKS, cloglog


@pytest.mark.parametrize("name", list(LINKS))
def test_a_link_is_increasing_symmetric_and_a_probability(name):
    x = np.concatenate([np.linspace(-6, 6, 201), [-800.0, 800.0]])
    p = LINKS[name](x)
    np.testing.assert_allclose(p + LINKS[name](-x), 1.0, rtol=1e-12)
    assert (np.diff(p[:201]) > 0).all()
    assert LINKS[name](np.zeros(1))[0] == 0.5
    np.testing.assert_allclose(p[-2:], [0.0, 1.0], atol=1e-12)


def test_cloglog_is_the_mean_of_itself_and_its_reflection():
    for x in (-1.3, 0.2, 2.0):
        plain, turned = (1.0 - np.exp(-np.log(2.0) * np.exp(value)) for value in (x, -x))
        assert cloglog(np.array([x]))[0] == pytest.approx((plain + 1.0 - turned) / 2)
    assert cloglog(np.array([1.0], np.float32)).dtype == np.float32
