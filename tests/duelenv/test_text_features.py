"""Features of texts: centred, scaled, blind to the order of responses, and the same in every process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from duelenv import UserError
from duelenv.text_features import (
    STYLE_NAMES,
    TextFeatures,
    embedding_components,
    scale_within,
    style,
    word_components,
)

WORDS = "the a cat dog sat ran on under mat tree quickly because of and then it was 7 12 great".split()


def make_texts(prompts: int, size: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Random texts of 1 to 40 words with the marks that style features count."""
    generator = np.random.default_rng(seed)
    marks = np.array([" ", " ", " ", ". ", "\n- ", ", ", "? ", "\n\n"])
    texts = np.empty((prompts, size), dtype=object)
    for index in np.ndindex(texts.shape):
        length = int(generator.integers(1, 41))
        pieces = zip(generator.choice(WORDS, length), generator.choice(marks, length), strict=True)
        texts[index] = "".join(word + mark for word, mark in pieces)
    return [f"tell me about the {WORDS[n % len(WORDS)]} {n}" for n in range(prompts)], texts


def test_shape_type_centre_and_norm() -> None:
    prompts, texts = make_texts(30, 5)
    for dim in (3, 28, 56, 64, 100):
        features = TextFeatures(dim)(prompts, texts)
        assert features.shape == (30, 5, dim) and features.dtype == np.float32
        np.testing.assert_allclose(features.mean(axis=1), 0.0, atol=1e-6)
        np.testing.assert_allclose((features**2).sum(axis=2).mean(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 7])
def test_features_go_with_the_response_wherever_it_stands(size: int) -> None:
    # Ties broken by position would write the slot, and with it the responder, into the features.
    prompts, texts = make_texts(25, size)
    texts[:, 1] = texts[:, 0]
    order = np.random.default_rng(1).random(texts.shape).argsort(axis=1)
    moved = TextFeatures(80)(prompts, np.take_along_axis(texts, order, axis=1))
    stayed = TextFeatures(80)(prompts, texts)
    expected = np.take_along_axis(stayed, order[:, :, np.newaxis], axis=1)
    np.testing.assert_allclose(moved, expected, atol=2e-6)
    np.testing.assert_allclose(stayed[:, 0], stayed[:, 1], atol=1e-6)


def test_style_counts_what_its_names_say() -> None:
    text = "Sure! I have 2 ideas:\n- one, **big**\n- two\n\n# End\nDo you agree?"
    values = dict(zip(STYLE_NAMES, style("two ideas", text), strict=True))
    expected_logs = {
        "log_characters": len(text),
        "log_lines": 5,
        "log_paragraphs": 1,
        "log_list_items": 2,
        "log_headings": 1,
        "log_bold": 2,
        "log_code_fences": 0,
        "log_question_marks": 1,
        "log_exclamation_marks": 1,
        "log_colons": 1,
    }
    for name, count in expected_logs.items():
        assert values[name] == pytest.approx(np.log1p(count)), name
    assert values["comma_share"] == pytest.approx(1 / len(text))
    assert values["digit_share"] == pytest.approx(1 / len(text))
    assert values["uppercase_share"] == pytest.approx(4 / len(text))
    assert values["prompt_words_used"] == 1.0
    assert values["first_person_share"] == pytest.approx(1 / 12)
    assert values["second_person_share"] == pytest.approx(1 / 12)
    assert values["opens_eagerly"] == values["ends_with_question"] == values["ends_sentence"] == 1.0
    assert values["apologises"] == 0.0


def test_a_style_feature_that_no_response_differs_in_is_zero() -> None:
    prompts, texts = make_texts(10, 4)
    fences = STYLE_NAMES.index("log_code_fences")
    features = TextFeatures(56)(prompts, texts)
    assert (features[:, :, fences] == 0).all() and (features[:, :, 28 + fences] == 0).all()


@pytest.mark.parametrize("text", ["", "\n", "...", "日本語のテキスト。", "é" * 50])
def test_any_text_has_finite_features(text: str) -> None:
    features = TextFeatures(70)(["", "p"], [[text, "an answer", "b"], ["c", text, text]])
    assert np.isfinite(features).all()


def test_equal_responses_everywhere_have_no_features() -> None:
    for texts in ([["a b", "a b"], ["c", "c"]], [["", ""], ["", ""]]):
        assert (TextFeatures(64)(["p", "q"], texts) == 0).all()


def test_words_tell_apart_what_style_does_not() -> None:
    # Same lengths and marks; only the word differs, so only the hashed words can tell.
    texts = [
        ["kind words here", "rude words here"] if n % 2 else ["rude words here", "kind words here"] for n in range(20)
    ]
    components = word_components(texts, 4)
    is_kind = np.array([[text.startswith("kind") for text in pair] for pair in texts])
    first = components[:, :, 0]
    assert abs(first[is_kind].mean() - first[~is_kind].mean()) > 1.5
    assert style("p", "kind words here") == style("p", "rude words here")


def test_components_equal_a_dense_decomposition() -> None:
    embeddings = np.random.default_rng(0).normal(size=(20, 4, 9)) * np.arange(1, 10)
    embeddings += 100 * np.random.default_rng(1).normal(size=(20, 1, 9))  # what the prompts differ in
    centred = embeddings - embeddings.mean(axis=1, keepdims=True)
    _, _, right = np.linalg.svd(centred.reshape(-1, 9), full_matrices=False)
    expected = scale_within((centred.reshape(-1, 9) @ right[:3].T).reshape(20, 4, 3))
    components = embedding_components(embeddings, 3)
    signs = np.sign((components * expected).sum(axis=(0, 1)))
    np.testing.assert_allclose(components, expected * signs, atol=1e-8)


def test_scaling_is_shrunken_towards_the_table() -> None:
    values = np.zeros((2, 20, 1))
    values[0, :, 0] = np.linspace(-1, 1, 20)
    values[1, :, 0] = np.linspace(-10, 10, 20)
    scaled = scale_within(values)
    deviations = scaled.std(axis=1)[:, 0]
    assert deviations[0] < deviations[1] < 4 * deviations[0]  # ten times apart before
    assert scaled.std() == pytest.approx(1.0)
    np.testing.assert_allclose(scale_within(7 * values + 3), scaled)


def test_features_are_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "import numpy as np; from duelenv.text_features import TextFeatures;"
        "print(TextFeatures(60)(['p'] * 3, [['a b c', 'b c d', 'x y'], ['q a', 'a', 'c d'], ['z', 'y', 'x a']])"
        ".astype(np.float64).round(5).tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("dim", [0, -3, 1.5, True])
def test_a_dim_that_is_no_positive_integer_is_refused(dim: object) -> None:
    with pytest.raises(UserError, match="dim is"):
        TextFeatures(dim)  # type: ignore[arg-type]
