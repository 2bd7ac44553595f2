"""Features of responses by their words."""

import subprocess
import sys

import numpy as np
import pytest
from worlds import make_vector

from duelenv.ground.errors import UserError
from duelenv.worlds import encoders
from duelenv.worlds.encoders import ENCODERS, HashedWords

TEN = "one two three four five six seven eight nine ten"


def of(text, dim=128):
    return HashedWords(dim)([""], [text])[0]


def test_a_word_that_one_of_two_responses_of_ten_words_has_is_worth_one_deviation():
    """Of a linear utility with the prior N(0, I), up to 3 / sqrt(10)."""
    gap = of(f"{TEN} rare") - of(f"{TEN} six")
    word = of("rare")[2:] / 3 * 3 / np.sqrt(11)  # what the word adds among eleven
    assert np.linalg.norm(word) == pytest.approx(3 / np.sqrt(11), rel=1e-6)
    doubled = np.log(2) * of("six")[2:] / np.sqrt(11)  # it says six twice
    np.testing.assert_allclose(gap[2:], word - doubled, atol=1e-6)


def test_words_are_vectors_of_length_one_and_nearly_at_right_angles():
    words = np.stack([of(f"w{number}", 130)[2:] / 3 for number in range(300)])
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1.0, rtol=1e-6)
    cosines = (words @ words.T)[np.triu_indices(300, 1)]
    assert abs(cosines.mean()) < 4 / np.sqrt(128 * len(cosines))
    assert cosines.var() == pytest.approx(1 / 128, rel=0.1)


def test_order_and_case_do_not_count_and_punctuation_does():
    np.testing.assert_allclose(of("The cat saw the dog"), of("the dog SAW the cat"), atol=1e-6)
    assert not np.allclose(of("so"), of("so!"))
    assert of("").tolist() == [0.0] * 128


def test_many_responses_at_once_are_each_by_itself_to_the_last_bit():
    responses = ["so", "", f"{TEN} six six", "six so six", "So, so!"]
    together = HashedWords()([""] * len(responses), responses)
    assert together.tolist() == [of(response).tolist() for response in responses]
    assert HashedWords()([], []).shape == (0, 128)


def test_a_word_said_twice_counts_one_and_log_two_times():
    expected = ((1 + np.log(2)) * of("six")[2:] + of("so")[2:]) / np.sqrt(3)
    np.testing.assert_allclose(of("six so six")[2:], expected, rtol=1e-6)


def test_length_stands_by_itself_so_that_a_utility_can_have_a_best_one():
    assert of("a a a")[:2] == pytest.approx([np.log(4), np.log(4) ** 2])
    lengths = np.arange(1, 30)
    features = np.stack([of("a " * int(length)) for length in lengths])
    best = features[:, :2] @ [2 * np.log(9), -1.0]  # -(log(1 + n) - log 9)^2
    assert lengths[best.argmax()] == 8


def test_a_word_is_the_same_in_another_process():
    code = "from duelenv.worlds.encoders import HashedWords; print(HashedWords()([''], ['forest'])[0].tolist())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(of("forest").tolist())


def test_a_world_takes_the_words_by_name():
    env = make_vector("duelenv/AlignmentDuel-v0", 2, features="words")
    observation, _ = env.reset(seed=0)
    assert observation["features"].shape == (2, 4, 128)
    responses = observation["responses"][1].tolist()
    np.testing.assert_array_equal(observation["features"][1], ENCODERS["words"]()([""] * 4, responses))
    with pytest.raises(UserError, match="encoder 'wards' is unknown: did you mean 'words'"):
        make_vector("duelenv/AlignmentDuel-v0", 2, features="wards")
    with pytest.raises(UserError, match="dim is 4"):
        HashedWords(4)


def test_blocks_stand_side_by_side_in_the_order_in_which_they_are_given():
    def length(prompts, responses):
        return [[float(len(text))] for text in responses]

    def seen(features):
        return make_vector("duelenv/AlignmentDuel-v0", 2, features=features).reset(seed=0)[0]["features"]

    start, words, own = seen("start"), seen("words"), seen(length)
    np.testing.assert_array_equal(seen(["start"]), start)
    beside = seen(["words", length, "start"])
    np.testing.assert_array_equal(beside[..., :129], np.concatenate([words, own], axis=-1))
    # Of whatever size a model makes its states: beside others each has the length of one word.
    states = beside[..., 129:]
    np.testing.assert_allclose(np.linalg.norm(states, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(states * np.linalg.norm(start, axis=-1, keepdims=True), start, rtol=1e-5, atol=1e-6)


def test_by_default_a_belief_sees_what_the_model_makes_of_a_response_and_what_it_says():
    shown = [
        make_vector("duelenv/AlignmentDuel-v0", 2, **given).reset(seed=0)[0]["features"]
        for given in ({}, {"features": ["start", "words"]})
    ]
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize(("given", "said"), [([], "names no block"), (["words", "words"], "names one block")])
def test_each_block_is_given_once(given, said):
    with pytest.raises(UserError, match=said):
        make_vector("duelenv/AlignmentDuel-v0", 2, features=given)


def test_no_more_than_some_thousand_words_are_remembered():
    limit = encoders._vector.cache_info().maxsize
    HashedWords()([""] * 90, [" ".join(f"new{n}word{w}" for w in range(100)) for n in range(90)])
    assert encoders._vector.cache_info().currsize == limit == 8192
