"""Text spaces hold what language models write, and batch as Gymnasium expects."""

import numpy as np
import pytest
from gymnasium.spaces import Dict
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from duelenv.spaces import Unicode, UnicodeArray


@pytest.mark.parametrize("text", ["", " ", "two words\n", "ça va", "日本語", "\x00"])
def test_any_string_belongs_to_unicode(text):
    assert text in Unicode()


def test_other_things_do_not_belong():
    assert 3 not in Unicode()
    assert np.array(["a", "b"], dtype=object) not in UnicodeArray((3,))
    assert np.array(["a", 3], dtype=object) not in UnicodeArray((2,))
    assert np.array(["a", "b"]) not in UnicodeArray((2,))  # a fixed-width dtype would cut texts


def test_samples_belong_and_follow_the_seed():
    space = UnicodeArray((4,), seed=3)
    first = space.sample()
    assert first in space
    space.seed(3)
    np.testing.assert_array_equal(first, space.sample())


def test_batching_adds_a_leading_axis():
    single = Dict({"prompt": Unicode(), "responses": UnicodeArray((3,))})
    batched = batch_space(single, 5)
    assert batched["prompt"] == UnicodeArray((5,))
    assert batched["responses"] == UnicodeArray((5, 3))
    assert batched.sample() in batched


def test_concatenate_and_iterate_are_inverse():
    single = Dict({"prompt": Unicode(), "responses": UnicodeArray((3,))})
    items = [single.sample() for _ in range(4)]
    joined = concatenate(single, items, create_empty_array(single, n=4))
    assert joined in batch_space(single, 4)
    for item, back in zip(items, iterate(batch_space(single, 4), joined), strict=True):
        assert item["prompt"] == back["prompt"]
        np.testing.assert_array_equal(item["responses"], back["responses"])


def test_json_round_trip():
    space = UnicodeArray((2,), seed=0)
    samples = [space.sample() for _ in range(3)]
    for sample, back in zip(samples, space.from_jsonable(space.to_jsonable(samples)), strict=True):
        np.testing.assert_array_equal(sample, back)
