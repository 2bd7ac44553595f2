"""The toy policy speaks its grammar; its cache survives damage; building it leaves global randomness alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from duelenv.ground.errors import UserError
from duelenv.policies import toy


@pytest.fixture(scope="module")
def texts():
    policy = toy.toy_policy()
    prompts = toy.toy_prompts(64, "test")
    samples = policy.sample(prompts, 64, uniforms=np.random.default_rng(0).random((64, 64, 16)))
    return samples.texts


def test_responses_are_grammatical_and_neither_good_nor_bad(texts):
    flat = texts.ravel()
    lengths = np.array([len(text.split()) for text in flat])
    assert np.mean([toy.is_grammatical(text) for text in flat]) > 0.85
    assert 6 <= lengths.mean() <= 10
    assert np.mean((lengths >= 4) & (lengths <= 12)) > 0.95
    assert 0.003 <= np.mean([toy.RARE in text.split() for text in flat]) <= 0.04
    good, bad = (
        np.mean([any(word in words for word in text.split()) for text in flat]) for words in (toy.GOOD, toy.BAD)
    )
    assert 0.3 < good < 0.7 and 0.3 < bad < 0.7 and 0.6 < good / bad < 1.7
    assert len(set(flat)) > 0.6 * len(flat)


def test_responses_are_about_the_prompt(texts):
    topics = [next(w for w in p.split() if w in toy.NOUNS) for p in toy.toy_prompts(64, "test")]
    assert np.mean([topic in text.split() for topic, row in zip(topics, texts, strict=True) for text in row]) > 0.8


def test_vocabulary_and_grammar():
    assert len(toy.WORDS) == 96
    tokenizer = toy.toy_tokenizer()
    text = "they say the kind farmer waits near the old bridge now because it is fair"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert toy.is_grammatical(text)
    assert not toy.is_grammatical("the garden") and not toy.is_grammatical("the is kind garden")
    generator = np.random.default_rng(1)
    sentences = [toy._sentence("garden", 0.015, generator) for _ in range(4000)]
    assert all(toy.is_grammatical(sentence) for sentence in sentences)
    assert {len(sentence.split()) for sentence in sentences} <= set(range(4, 13))
    assert np.mean([toy.RARE in s for s in sentences]) == pytest.approx(0.015, abs=4 * np.sqrt(0.015 / 4000))
    known = set(toy.WORDS)
    assert all(set(prompt.split()) <= known for prompt in toy._all_prompts())


def test_prompts_are_distinct_and_splits_disjoint():
    train, test = toy.toy_prompts(500, "train"), toy.toy_prompts(200, "test", seed=3)
    assert len(set(train)) == 500 and len(set(test)) == 200
    every = set(toy.toy_prompts(len(toy._all_prompts()) * 4 // 5, "train"))
    assert not every & set(test)
    assert toy.toy_prompts(20, seed=1) == toy.toy_prompts(20, seed=1) != toy.toy_prompts(20, seed=2)
    with pytest.raises(UserError, match="count is 0"):
        toy.toy_prompts(0)
    with pytest.raises(UserError, match="'dev'"):
        toy.toy_prompts(3, "dev")


@pytest.fixture
def short(monkeypatch):
    """A build of a few steps, for what does not depend on how well the model speaks."""
    monkeypatch.setattr(toy, "ToySettings", partial(toy.ToySettings, steps=3, batch=8))


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])


def test_build_is_deterministic_and_leaves_global_randomness_alone(short, tmp_path):
    torch.random.default_generator.manual_seed(5)
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first = weights(toy.toy_policy(0, tmp_path / "a"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    assert torch.get_num_threads() == threads
    torch.random.default_generator.manual_seed(6)
    assert torch.equal(first, weights(toy.toy_policy(0, tmp_path / "b")))
    assert not torch.equal(first, weights(toy.toy_policy(1, tmp_path / "b")))


def test_cache_is_used(short, tmp_path, monkeypatch):
    expected = weights(toy.toy_policy(0, tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]

    def fail(*arguments, **settings):
        raise AssertionError("built again")

    monkeypatch.setattr(torch.optim, "AdamW", fail)  # the builder's own source is part of the cache's key
    assert torch.equal(expected, weights(toy.toy_policy(0, tmp_path)))
    monkeypatch.setenv("DUELENV_CACHE", str(tmp_path))
    assert torch.equal(expected, weights(toy.toy_policy(0)))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_damaged_cache_is_built_again(short, tmp_path, damage):
    expected = weights(toy.toy_policy(0, tmp_path))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "flipped": content[:-7] + bytes([content[-7] ^ 255]) + content[-6:],
            "text": b"not a model",
        }[damage]
    )
    assert torch.equal(expected, weights(toy.toy_policy(0, tmp_path)))
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_a_warning(short, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be cached"):
        toy.toy_policy(0, tmp_path / "file" / "cache")


def test_unknown_architecture():
    with pytest.raises(UserError, match="'rnn'"):
        toy.tiny_model("rnn")
