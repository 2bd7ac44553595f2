"""Streams: rows, purposes and kinds of draw do not disturb each other, and a state continues exactly."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RoundUniforms, RowStreams, stream


def test_rows_of_a_small_batch_are_the_first_rows_of_a_large_one():
    large, small = RowStreams(3, "context", rows=8), RowStreams(3, "context", rows=4)
    for _ in range(130):  # over two ends of a block
        np.testing.assert_array_equal(large.normal(5, 2)[:4], small.normal(5, 2))


def test_purposes_and_rows_differ():
    draws = [stream(0, purpose, row).random() for purpose in ("a", "b") for row in (0, 1)]
    assert len(set(draws)) == 4


def test_asking_for_another_kind_of_draw_changes_nothing():
    alone, mixed = RowStreams(1, "x", rows=3), RowStreams(1, "x", rows=3)
    for _ in range(3):
        mixed.normal(7)
        mixed.uniform(2)
        np.testing.assert_array_equal(alone.uniform(), mixed.uniform())


def test_blocks_are_one_long_sequence():
    streams = RowStreams(5, "x", rows=1)
    drawn = np.concatenate([streams.uniform(3)[0] for _ in range(200)])
    expected = stream(5, "x/uniform,float64,3", 0).random(600)
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("shape", [(), (3,), (10, 10)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_draws_are_normal_and_independent(dtype, shape):
    """Kolmogorov-Smirnov on all of them, and no correlation or shared radius between the halves of a block."""
    streams = RowStreams(2, "x", rows=40)
    drawn = np.stack([streams.normal(*shape, dtype=dtype) for _ in range(128)], axis=1).astype(float)
    assert stats.kstest(drawn.ravel()[:20_000], "norm").pvalue > 0.001
    values = drawn.reshape(40, 2, -1)  # two blocks a row
    first, second = np.array_split(values.reshape(80, -1)[:, : values.shape[2] // 2 * 2], 2, axis=1)
    count = first.size
    for power in (1, 2):
        left, right = first.ravel() ** power, second.ravel() ** power
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(count)
    assert values.mean() == pytest.approx(0.0, abs=4 / np.sqrt(values.size))
    assert values.var() == pytest.approx(1.0, abs=6 / np.sqrt(values.size))


def test_arrays_that_were_handed_out_stay_as_they_were():
    streams = RowStreams(5, "x", rows=2)
    first = streams.uniform(3)
    kept = first.copy()
    for _ in range(200):
        streams.uniform(3)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("reads", [1, 63, 64, 65, 130])
def test_a_restored_state_continues_exactly(reads):
    original, restored = RowStreams(9, "x", rows=2), RowStreams(9, "x", rows=2)
    for _ in range(reads):
        original.uniform(2)
        original.normal(3, dtype=np.float32)
    restored.load_state_dict(original.state_dict())
    np.testing.assert_array_equal(original.uniform(2), restored.uniform(2))
    np.testing.assert_array_equal(original.normal(3, dtype=np.float32), restored.normal(3, dtype=np.float32))


def test_streams_are_the_same_in_another_process():
    """Seeds from `hash` would differ: Python salts it anew in each process."""
    code = "from duelenv.ground.randomness import stream; print(stream(7, 'coin', 3).random())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(printed) == stream(7, "coin", 3).random()


def test_the_uniforms_of_a_round_do_not_depend_on_which_rounds_were_asked_for():
    ascending = RoundUniforms(4, "coin", rows=3)
    streams = RowStreams(4, "coin", rows=3)
    expected = [streams.uniform() for _ in range(150)]
    for number in (0, 1, 1, 70, 149):
        np.testing.assert_array_equal(ascending.at(number), expected[number])
    for number in (149, 148, 149, 3, 65, 0, 64, 64, 148):
        np.testing.assert_array_equal(ascending.at(number), expected[number])


def test_streams_can_be_copied_and_pickled_in_the_middle():
    original = RowStreams(9, "x", rows=2)
    for _ in range(70):
        original.uniform(2)
    copies = [copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    for _ in range(70):
        expected = original.uniform(2)
        for other in copies:
            np.testing.assert_array_equal(other.uniform(2), expected)


def test_a_state_of_another_root_is_refused():
    with pytest.raises(UserError, match="make it with the same seed"):
        RowStreams(1, "x", rows=2).load_state_dict(RowStreams(2, "x", rows=2).state_dict())


def test_a_loaded_state_forgets_draws_that_it_does_not_hold():
    streams, plain = RowStreams(1, "x", rows=2), RowStreams(1, "x", rows=2)
    streams.uniform(3)
    streams.load_state_dict(plain.state_dict())
    np.testing.assert_array_equal(streams.uniform(3), plain.uniform(3))


def test_draws_are_those_that_published_figures_were_made_with():
    """A change of blocks or of the normal's formula would silently give every seed another meaning."""
    streams = RowStreams(7, "x", rows=1)
    np.testing.assert_allclose(streams.uniform(2)[0], [0.463225479246433, 0.2735865572120192], rtol=1e-12)
    np.testing.assert_allclose(streams.normal(2, dtype=np.float32)[0], [-0.73182344, 0.67772251], rtol=1e-5)
