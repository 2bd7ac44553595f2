"""The bench of judges goes through the whole path of a run, and leaves nothing behind."""

import pytest

from duelenv.experiments.bench.oracles import judge_rate


def test_a_judge_is_measured_with_two_requests_a_duel(tmp_path):
    rate = judge_rate(duels=20, width=4, folder=tmp_path)
    assert rate.requests == pytest.approx(2.0 * rate.duels)
    assert rate.requests > 20.0 and 0.0 < rate.cpu_ms < 50.0  # a busy machine is no reason to fail
    assert list(tmp_path.iterdir()) == []
