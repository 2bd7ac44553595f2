"""The bench of backends plays what it says, and its table gives cells by the minute of a whole run."""

import pytest

from duelenv import UserError
from duelenv.experiments.bench.sweeps import BackendRate, backend_rates, rates_text


def test_cells_are_played_and_counted():
    (rate,) = backend_rates(["sequential"], copies=2)
    assert (rate.backend, rate.cells) == ("sequential", 6)
    assert 0 < rate.start < rate.whole


def test_the_rate_is_cells_by_minutes_of_the_run():
    rate = BackendRate("loky", 30, start=2.0, whole=15.0, load=1.25)
    assert rate.cells_per_minute == 120.0
    assert rates_text([rate]).splitlines()[1].split() == ["loky", "30", "2.0", "s", "15.0", "s", "120", "1.2"]


def test_an_unknown_backend_is_one_sentence():
    with pytest.raises(UserError, match="did you mean 'dask'"):
        list(backend_rates(["dusk"]))
