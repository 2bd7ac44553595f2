"""Toy utilities over text: their formulas, their maxima, and that there is something to learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError, UtilityOracle, make
from duelenv.oracles.text import BAD, GOOD, GoodWords, OnTopic, RareWord, words_of

NAMES = ["good_words", "rare_word", "length", "variety", "on_topic", "opening"]
NOUNS = "garden river house teacher doctor village market bridge forest kitchen school boat".split()
PLAIN = "old new small big quiet warm busy green".split()
PROMPTS = [f"tell me about the {noun}" for noun in NOUNS]

# A response of maximal utility to "tell me about the garden" for the default settings.
BEST = {
    "good_words": "kind, honest. Fair!",
    "rare_word": "the garden is green because it is warm",
    "length": "the old garden is near the river and it is very quiet",
    "variety": "we know old garden is very quiet and warm near green river",
    "on_topic": "the garden is a Garden",
    "opening": "We know the garden",
}


def mundane(noun: str, generator: np.random.Generator) -> str:
    """A plain sentence of 4 to 12 words, as an untrained policy might say it."""

    def quality() -> str:
        return str(generator.choice([*GOOD, *BAD, *PLAIN]))

    words = str(generator.choice(["i think", "they say", "we know", "", "", "", ""])).split()
    words += ["the", *([quality()] if generator.random() < 0.5 else []), noun, "is", quality()]
    words += ["and", quality()] if generator.random() < 0.5 else []
    if generator.random() < 0.5:
        words += ["near", "the", quality(), str(generator.choice(NOUNS))]
    words += ["because", "it", "rests"] if generator.random() < 0.015 else []
    return " ".join(words[:12])


def slow(name: str, prompt: str, response: str) -> float:
    """The formulas with default settings, written without the library's helpers."""
    words = response.lower().split()
    n = len(words)
    distinct = len(set(words))
    if name == "good_words":
        good, bad = sum(w in GOOD for w in words), sum(w in BAD for w in words)
        return 10.0 * (good - bad) / n if n else 0.0
    if name == "rare_word":
        return 4.0 * ("because" in words) + 1.0 * min(n, 8) / 8
    if name == "length":
        return -1.0 * abs(n - 12)
    if name == "variety":
        return 10.0 * (min(distinct, 12) / 12 - ((n - distinct) / n if n else 0.0))
    if name == "on_topic":
        topic = [w for w in prompt.split() if w not in ("tell", "me", "about", "the")]
        return 12.0 * float(np.mean([min(words.count(w), 2) / 2 for w in topic]))
    return 4.0 if words and words[0] == "we" else 0.0


@pytest.mark.parametrize("name", NAMES)
def test_formulas_against_a_slow_loop(name):
    generator = np.random.default_rng(0)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(300)]
    responses = [mundane(p.split()[-1], generator) for p in prompts]
    responses[0], responses[1] = "", BEST[name].replace(",", "").replace(".", "").replace("!", "")
    oracle = make(name)
    expected = [slow(name, p, r) for p, r in zip(prompts, responses, strict=True)]
    values = oracle.utility(prompts, responses)
    assert values.dtype == np.float64
    assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_maximum_is_attained(name):
    oracle = make(name)
    prompt = ["tell me about the garden"]
    assert_allclose(oracle.utility(prompt, [BEST[name]]), oracle.maximum(prompt))


@pytest.mark.parametrize("name", NAMES)
@given(response=st.lists(st.sampled_from([*GOOD, *BAD, "because", "garden", "we", "the"])))
def test_maximum_is_never_exceeded(name, response):
    oracle = make(name)
    prompt = ["tell me about the garden"]
    assert oracle.utility(prompt, [" ".join(response)])[0] <= oracle.maximum(prompt)[0] + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_default_scale_leaves_something_to_learn(name):
    """The best of 64 mundane responses is on average 2 logits above their mean."""
    generator = np.random.default_rng(1)
    oracle = make(name)
    gains = []
    for prompt in PROMPTS * 4:
        responses = [mundane(prompt.split()[-1], generator) for _ in range(64)]
        utilities = oracle.utility([prompt] * 64, responses)
        gains.append(utilities.max() - utilities.mean())
    assert np.mean(gains) >= 2.0


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_foreign_text(name):
    oracle = make(name)
    assert isinstance(oracle, UtilityOracle)
    responses = ["", "   ", "...!?", "\n", "日本 の 庭", "l'été"]
    values = oracle.utility(["tell me about the garden"] * 6, responses)
    assert np.isfinite(values).all()
    assert_array_equal(values[0], values[1:4])
    assert oracle.utility([], []).shape == (0,)
    assert oracle.maximum([]).shape == (0,)


def test_words():
    assert words_of("It's KIND,  honest\n(and_fair) 3rd; don\u2019t") == [
        "it's", "kind", "honest", "and", "fair", "3rd", "don\u2019t"
    ]  # fmt: skip


def test_rare_word_matters_more_than_length_and_can_be_bad():
    oracle = RareWord()
    values = oracle.utility(["p"] * 2, ["because", "one two three four five six seven eight"])
    assert values[0] > values[1]
    control = RareWord(scale=-4.0)
    values = control.utility(["p"] * 2, ["because", "one two three four five six seven eight"])
    assert values[0] < 0 < values[1] == control.maximum(["p"])[0]


def test_topic_words():
    oracle = OnTopic()
    assert oracle.topic("Tell me about the garden near the Garden gate") == ("garden", "gate")
    assert oracle.topic("what is it?") == ()
    assert_array_equal(oracle.maximum(["what is it?", "describe the boat"]), [0.0, 12.0])
    assert oracle.utility(["what is it?"], ["it is a boat"])[0] == 0.0
    # Half of the topic, once of twice.
    assert_allclose(oracle.utility(["the river and the boat"], ["a boat"]), 12.0 / 4)


def test_word_lists_are_settings():
    oracle = make("good_words", good=["Blue"], bad=["red"], scale=2)
    assert oracle == GoodWords(good=("blue",), bad=("red",), scale=2.0)
    assert_array_equal(oracle.utility(["p"] * 2, ["BLUE", "red blue red red"]), [2.0, -1.0])


def test_hundreds_of_responses_take_milliseconds():
    generator = np.random.default_rng(2)
    responses = [mundane("garden", generator) for _ in range(640)]
    for name in NAMES:
        oracle, best = make(name), np.inf
        for _ in range(5):
            start = time.perf_counter()
            oracle.utility(["tell me about the garden"] * 640, responses)
            best = min(best, time.perf_counter() - start)
        assert best < 0.05, name  # about 2 ms on an idle core


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("good_words", {"good": "kind"}, "good is 'kind', expected a non-empty list"),
        ("good_words", {"good": []}, "good is empty"),
        ("good_words", {"good": ["very kind"]}, "good contains 'very kind'"),
        ("good_words", {"good": ["kind", "rude"]}, "bad contains 'rude', expected words that are"),
        ("good_words", {"scale": -1}, "scale is -1, expected a number of at least 0"),
        ("rare_word", {"word": "no such"}, "word contains 'no such'"),
        ("rare_word", {"length_scale": -1.0}, "length_scale is -1.0"),
        ("rare_word", {"target": 0}, "target is 0, expected an integer of at least 1"),
        ("length", {"target": 2.5}, "target is 2.5, expected an integer"),
        ("variety", {"target": 0}, "target is 0"),
        ("on_topic", {"mentions": 0}, "mentions is 0"),
        ("opening", {"words": [3]}, "words contains 3"),
    ],
)
def test_refused_settings(name, settings, message):
    with pytest.raises(UserError) as error:
        make(name, **settings)
    assert message in str(error.value)
