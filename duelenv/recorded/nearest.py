"""The recorded pair that is most like a pair of responses, by the words of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from duelenv.oracles.recorded import PairRecord
from duelenv.text_features import inverse_frequencies, token_counts, weighted_counts

Float64 = NDArray[np.float64]

#: Texts whose words say how common a word is; reading all of a large record would take minutes.
_SAMPLE: Final = 2_000
#: Similarities that agree to so many digits are equal.
_DIGITS: Final = 9


class Near(NamedTuple):
    """What was recorded of the most similar pair.

    Attributes:
        win: Probability that the first was preferred.
        tie: That of a declared tie.
        similarity: Of the pair, in [0, 1].
    """

    win: float
    tie: float
    similarity: float


class NearestPairs:
    """Finds the recorded pair of the same prompt that is most like two responses, in whichever order it stands.

    Two responses are as similar as the cosine between their words and pairs of neighbouring words, hashed
    (`duelenv.text_features.token_counts`) and weighted by (1 + log count) * idf; equal ones are at 1. A pair is as
    similar as the less similar of its two responses, so that one equal response does not make up for another that has
    nothing in common; among equals, the mean of both decides. Pairs that are still equal, and the two orders of one
    pair, are averaged: nothing depends on the order of the record, and the answer to (b, a) is that to (a, b) turned.

    Args:
        record: The recorded pairs. How common a word is, is counted in 2,000 texts, evenly spaced in sorted order.
    """

    def __init__(self, record: PairRecord) -> None:
        self._record = record
        self._of_prompt: dict[str, _Pairs] = {}
        # Prompts evenly spaced, so that few texts are looked at, however many there are.
        prompts = sorted(record.prompts)
        spread = prompts[:: max(1, len(prompts) // _SAMPLE)][:_SAMPLE]
        texts = sorted({text for prompt in spread for pair in record.pairs_of(prompt) for text in pair[1:3]})
        self._idf = inverse_frequencies(token_counts(texts[:: max(1, len(texts) // _SAMPLE)][:_SAMPLE]))

    def find(self, prompt: str, first: str, second: str) -> Near | None:
        """Return the most similar recorded pair; None for a prompt of which there is none."""
        if prompt not in self._record:
            return None
        if prompt not in self._of_prompt:
            self._of_prompt[prompt] = _Pairs(self._record, prompt, self._idf)
        return self._of_prompt[prompt].find(first, second)


class _Pairs:
    """The recorded pairs of one prompt, as numbers."""

    def __init__(self, record: PairRecord, prompt: str, idf: Float64) -> None:
        pairs = record.pairs_of(prompt)
        self._place: dict[str, int] = {}
        for pair in pairs:
            for text in pair[1:3]:
                self._place.setdefault(text, len(self._place))
        self._first = np.array([self._place[pair.first] for pair in pairs])
        self._second = np.array([self._place[pair.second] for pair in pairs])
        self._win = np.array([pair.win for pair in pairs])
        self._tie = np.array([pair.tie for pair in pairs])
        self._idf = idf
        self._words = self._weighted(list(self._place))

    def _weighted(self, texts: Sequence[str]) -> sparse.csr_array:
        return weighted_counts(token_counts(texts), self._idf)

    def find(self, first: str, second: str) -> Near:
        like = np.asarray((self._weighted([first, second]) @ self._words.T).toarray())  # [2, texts]
        like = np.clip(like.round(_DIGITS), 0.0, 1.0)
        for row, text in enumerate((first, second)):
            if text in self._place:
                like[row, self._place[text]] = 1.0
        sides = np.stack(  # [order, side, pairs]
            [
                [like[0, self._first], like[1, self._second]],
                [like[0, self._second], like[1, self._first]],
            ]
        )
        least, mean = sides.min(axis=1), sides.mean(axis=1).round(_DIGITS)
        best = least == least.max()
        best &= mean == mean[best].max()
        straight, turned = best
        wins = np.concatenate([self._win[straight], 1.0 - self._win[turned] - self._tie[turned]])
        ties = np.concatenate([self._tie[straight], self._tie[turned]])
        return Near(float(np.clip(wins.mean(), 0.0, 1.0)), float(ties.mean()), float(least[best][0]))
