"""Names in figures: moved apart, and no further than needed."""

import numpy as np
import pytest

from duelenv.experiments.figures.name_placement import spread


def test_names_at_line_ends_do_not_touch():
    heights = spread([10.0, 11.0, 11.5, 80.0], [15.0] * 3)
    assert np.diff(heights).min() >= 15 - 1e-9
    assert np.mean(heights[:3]) == pytest.approx(np.mean([10.0, 11.0, 11.5]))
    assert heights[3] == 80
    assert spread([], []) == []
    assert spread([0.0, 1.0, 99.0], [10.0, 20.0], within=(5.0, 90.0)) == pytest.approx([5.0, 15.0, 90.0])
