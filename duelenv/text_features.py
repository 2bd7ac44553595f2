"""Features of recorded responses made from their text alone, no model; not learned from scores.

Preferences between two responses to one prompt depend on differences only, so every feature is
centred within its prompt. They come in three groups:

- style: 28 counts and shares that a person can name (`STYLE_NAMES`), each divided by its deviation
  within the prompt;
- the squares of these, so that a linear utility can have a best length or a best number of lists;
- hashed words and word pairs, tf-idf weighted, centred, and reduced to their leading principal
  components.

Everything is unsupervised: no score is read. A feature of one response does not depend on the order
in which a prompt's responses stand. Ties are never broken by position, which in a table with a
fixed order of responders would give the responder away.
"""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.linalg import eigh

from duelenv.ground import checks

STYLE_NAMES = (
    "log_characters",
    "log_lines",
    "log_paragraphs",
    "log_list_items",
    "log_headings",
    "log_bold",
    "log_code_fences",
    "log_table_bars",
    "log_question_marks",
    "log_exclamation_marks",
    "log_colons",
    "log_parentheses",
    "log_quotes",
    "comma_share",
    "digit_share",
    "uppercase_share",
    "non_ascii_share",
    "distinct_word_share",
    "mean_word_length",
    "log_words_per_sentence",
    "prompt_words_used",
    "words_from_prompt_share",
    "first_person_share",
    "second_person_share",
    "opens_eagerly",
    "apologises",
    "ends_sentence",
    "ends_with_question",
)
"""Names of the style features, in their order. Shares are of characters or words; logs are
log(1 + count)."""

_SQUARE_WEIGHT = 0.5
_TEXT_WEIGHT = 0.5
_SHRINKAGE = 2.0
_BUCKETS = 2048
_BLOCK_ROWS = 4096

# Odd constants that spread codes over 64 bits; the top 11 bits name one of 2,048 buckets.
_MIX_FIRST = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(64 - 11)

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_TOKEN = re.compile(r"\w+|[^\w\s]+|\n+")
_LIST_ITEM = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE)
_HEADING = re.compile(r"^\s*#", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?]+")
_UPPERCASE = string.ascii_uppercase.encode()
_DIGITS = string.digits.encode()
_EAGER = re.compile(r"\s*(?:sure|certainly|of course|absolutely|great)\b", re.IGNORECASE)
_APOLOGIES = frozenset(("sorry", "apologise", "apologize", "cannot", "can't", "unable"))
_FIRST_PERSON = frozenset(("i", "i'm", "i've", "me", "my"))
_SECOND_PERSON = frozenset(("you", "your", "you're"))


def style(prompt: str, response: str) -> list[float]:
    """Return the raw style features of one response, in the order of `STYLE_NAMES`."""
    words = _WORD.findall(response.lower())
    prompt_words = set(_WORD.findall(prompt.lower()))
    distinct = set(words)
    shared = len(distinct & prompt_words)
    characters = max(len(response), 1)
    count = max(len(words), 1)
    stripped = response.rstrip()
    ascii_only = response.encode("ascii", "ignore")  # bytes, in which counting sets is fast
    counts = (
        len(response),
        response.count("\n"),
        response.count("\n\n"),
        len(_LIST_ITEM.findall(response)),
        len(_HEADING.findall(response)),
        response.count("**"),
        response.count("```"),
        response.count("|"),
        response.count("?"),
        response.count("!"),
        response.count(":"),
        response.count("("),
        response.count('"'),
    )
    return [
        *np.log1p(counts).tolist(),
        response.count(",") / characters,
        (len(ascii_only) - len(ascii_only.translate(None, _DIGITS))) / characters,
        (len(ascii_only) - len(ascii_only.translate(None, _UPPERCASE))) / characters,
        (len(response) - len(ascii_only)) / characters,
        len(distinct) / count,
        sum(map(len, words)) / count,
        float(np.log1p(len(words) / max(len(_SENTENCE_END.findall(response)), 1))),
        shared / max(len(prompt_words), 1),
        shared / max(len(distinct), 1),
        sum(map(_FIRST_PERSON.__contains__, words)) / count,
        sum(map(_SECOND_PERSON.__contains__, words)) / count,
        float(_EAGER.match(response) is not None),
        float(not _APOLOGIES.isdisjoint(distinct)),
        float(stripped.endswith((".", "!", "?"))),
        float(stripped.endswith("?")),
    ]


@dataclass(frozen=True)
class TextFeatures:
    """Default features of a pool's texts.

    Attributes:
        dim: Number of features d. The 28 style features come first, then their squares, then
            components of the hashed words (or of `embeddings`), as many as `dim` leaves room for;
            with K = 2 responses the squares are equal on both sides and make room for components.
            Features that no response differs in are 0.

    Raises:
        UserError: `dim` is not a positive integer.

    Example:
        >>> features = TextFeatures(dim=4)(["Why?"], [["Because.", "I do not know.", "Ask me!"]])
        >>> features.shape, features.dtype
        ((1, 3, 4), dtype('float32'))
    """

    dim: int = 64

    def __post_init__(self) -> None:
        checks.integer("dim", self.dim, low=1)

    def __call__(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]] | NDArray[np.object_],
        embeddings: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Return features [P, K, d], float32, of P prompts with K responses each.

        The mean squared norm is 1, so that theta ~ N(0, I) gives utilities with a deviation of 1
        within a prompt: a prior precision of about 1 is the natural setting of a linear belief.

        Args:
            prompts: P prompts.
            responses: K responses to each.
            embeddings: Embeddings of the responses, [P, K, h]; their principal components within
                prompts then take the place of the hashed words.
        """
        count, size = len(prompts), len(responses[0])
        raw = np.array(
            [[style(prompt, text) for text in texts] for prompt, texts in zip(prompts, responses, strict=True)]
        )
        scaled = scale_within(raw)
        groups = [scaled]
        if size > 2:
            groups.append(_SQUARE_WEIGHT * _unit_deviation(_centre(scaled**2)))
        room = self.dim - sum(group.shape[2] for group in groups)
        if room > 0:
            components = (
                word_components(responses, room) if embeddings is None else embedding_components(embeddings, room)
            )
            groups.append(_TEXT_WEIGHT * components)
        features = np.concatenate(groups, axis=2)[:, :, : self.dim]
        padded = np.zeros((count, size, self.dim), np.float32)
        padded[:, :, : features.shape[2]] = features
        return _unit_norm(padded)


def scale_within(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre values [P, K, d] within prompts and divide them by their deviation there.

    The deviation of a prompt is shrunken towards that of the whole table, with the weight of two
    responses: with K = 20 it is nearly the prompt's own, with K = 2 it is half of each.
    """
    centred = _centre(values)
    size = values.shape[1]
    own = (centred**2).mean(axis=1, keepdims=True)
    variance = (size * own + _SHRINKAGE * own.mean(axis=0)) / (size + _SHRINKAGE)
    return _unit_deviation(_divide(centred, np.sqrt(variance)))


def word_components(responses: Sequence[Sequence[str]] | NDArray[np.object_], dim: int) -> NDArray[np.float64]:
    """Return the leading components of hashed words and word pairs, float64 [P, K, <= dim].

    Tokens are words, runs of punctuation and line breaks, in lower case; they and pairs of
    neighbours fall into 2,048 buckets. Rows are (1 + log count) * idf, of norm 1, and centred
    within prompts: what all responses to a prompt share says nothing about preferences.
    """
    count, size = len(responses), len(responses[0])
    counts = token_counts([text for texts in responses for text in texts])
    table = weighted_counts(counts, inverse_frequencies(counts))
    used = np.flatnonzero(np.bincount(table.indices, minlength=_BUCKETS))
    table = table[:, used]  # few in a small table, whose components then cost little
    # Blocks of whole prompts are made dense and centred, so that the memory stays small.
    step = size * max(1, _BLOCK_ROWS // size)
    blocks = [slice(start, start + step) for start in range(0, count * size, step)]

    def centred(block: slice) -> NDArray[np.float64]:
        dense = table[block].toarray()
        return _centre(dense.reshape(len(dense) // size, size, len(used))).reshape(dense.shape)

    gram = np.zeros((len(used), len(used)))
    for block in blocks:
        rows = centred(block)
        gram += rows.T @ rows
    directions = _leading(gram, dim)
    coordinates = np.concatenate([centred(block) @ directions for block in blocks])
    return scale_within(coordinates.reshape(count, size, directions.shape[1]))


def embedding_components(embeddings: ArrayLike, dim: int) -> NDArray[np.float64]:
    """Return principal components of embeddings [P, K, h] within prompts, float64 [P, K, <= dim].

    Components over the whole table would mostly tell the prompts' topics apart.
    """
    centred = _centre(np.asarray(embeddings, np.float64))
    flat = centred.reshape(-1, centred.shape[2])
    directions = _leading(flat.T @ flat, dim)
    return scale_within((flat @ directions).reshape(*centred.shape[:2], directions.shape[1]))


def token_counts(texts: Sequence[str]) -> sparse.csr_array:
    """Return how often tokens and pairs of neighbours occur in texts, hashed into 2,048 buckets: int64 [n, 2048].

    Tokens are words, runs of punctuation and line breaks, in lower case.
    """
    codes = _TokenCodes()
    indices: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    counts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for text in texts:
        tokens = _TOKEN.findall(text.lower())
        single = np.fromiter(map(codes.__getitem__, tokens), np.uint64, len(tokens))
        mixed = single[:-1] * _MIX_FIRST + single[1:]
        buckets = (np.concatenate([single, mixed]) * _MIX) >> _SHIFT  # wraps at 64 bits
        histogram = np.bincount(buckets.astype(np.int64), minlength=_BUCKETS)
        indices.append(np.flatnonzero(histogram))
        counts.append(histogram[indices[-1]])
    ends = np.cumsum([len(row) for row in indices])
    return sparse.csr_array((np.concatenate(counts), np.concatenate(indices), ends), shape=(len(texts), _BUCKETS))


def inverse_frequencies(counts: sparse.csr_array) -> NDArray[np.float64]:
    """Return log((1 + n) / (1 + texts with it)) + 1 of every bucket of `token_counts`, float64 [2048]."""
    documents = np.bincount(counts.indices, minlength=_BUCKETS)
    frequencies: NDArray[np.float64] = np.log((1 + counts.shape[0]) / (1 + documents)) + 1.0
    return frequencies


def weighted_counts(counts: sparse.csr_array, idf: NDArray[np.float64]) -> sparse.csr_array:
    """Return rows (1 + log count) * idf, divided by their norm: float64 [n, 2048]; a text without tokens is 0."""
    values = (1.0 + np.log(counts.data)) * idf[counts.indices]
    row_of = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(row_of, values**2, minlength=counts.shape[0]))
    return sparse.csr_array((values / norms[row_of], counts.indices, counts.indptr), shape=counts.shape)


class _TokenCodes(dict[str, int]):
    """Remembers the CRC-32 of every token; `hash` would differ from one process to the next."""

    def __missing__(self, token: str) -> int:
        code = self[token] = zlib.crc32(token.encode())
        return code


def _leading(gram: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """Return the eigenvectors [h, <= dim] of the largest eigenvalues that are not 0."""
    size = len(gram)
    if not size:
        return np.zeros((0, 0))
    values, vectors = eigh(gram, subset_by_index=(max(size - dim, 0), size - 1))
    kept = np.flatnonzero(values > 1e-9 * max(float(values[-1]), 1e-300))[::-1]
    vectors = vectors[:, kept]
    # The sign of an eigenvector is arbitrary: its largest entry is made positive.
    largest = np.abs(vectors).argmax(axis=0)
    signed: NDArray[np.float64] = vectors * np.sign(vectors[largest, np.arange(len(kept))])
    return signed


def _centre(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = values - values.mean(axis=1, keepdims=True)
    return centred


def _unit_deviation(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    return _divide(centred, np.sqrt((centred**2).mean(axis=(0, 1))))


def _divide(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    # A feature that never differs leaves rounding errors of about 1e-16, which must not be blown up.
    small = by < 1e-9
    return np.where(small, 0.0, values / np.where(small, 1.0, by))


def _unit_norm(features: NDArray[np.float32]) -> NDArray[np.float32]:
    mean_square = float((features.astype(np.float64) ** 2).sum(axis=2).mean())
    return features / np.float32(np.sqrt(mean_square)) if mean_square > 0 else features
