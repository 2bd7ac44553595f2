"""Toy utilities over text that a tiny language model can learn within a unit test.

Each rewards something that can be counted in the words of a response, knows its largest value, and
is sized so that the best of 64 responses of an ordinary policy lies at least 2 logits above the
mean: enough for a learner to see, too little to saturate the labels. Not a measure of quality.

A word is a run of letters, digits and inner apostrophes, in lower case; punctuation is dropped.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles import links
from duelenv.oracles.base import UtilityOracle

GOOD = ("kind", "honest", "clear", "helpful", "gentle", "wise", "patient", "fair")
"""Words that `GoodWords` rewards."""

BAD = ("rude", "vague", "lazy", "harsh", "cruel", "dull")
"""Words that `GoodWords` punishes."""

FUNCTION_WORDS = tuple(
    """
    a about again all also an and any are as at be because been behind below beside between but by
    can could describe did do does each explain for from give had has have he her him his how i if
    in into is it its let looks many may me might more most much must my near no nor not now of on
    one or our out over please quite rather say seems she should so some such tell than that the
    their them then there these they this those to today too under up us very was we were what when
    where which who why will with would write you your
    """.split()
)
"""Words of a prompt that `OnTopic` does not take for its topic."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Find the words of a text, lower case, in order; empty for an empty text."""
    return _WORD.findall(text.lower())


class WordUtility(UtilityOracle):
    """A utility that looks at the words of one response at a time."""

    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Compute the utility of each response, in logits, float64 [N]."""
        return np.array(
            [self.score(prompt, words_of(response)) for prompt, response in zip(prompts, responses, strict=True)],
            dtype=np.float64,
        )

    @abstractmethod
    def score(self, prompt: str, words: list[str]) -> float:
        """Compute the utility of a response with these words, in logits."""

    def maximum(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Find the largest utility over all responses, in logits, float64 [N]."""
        return np.array([self.best(prompt) for prompt in prompts], dtype=np.float64)

    @abstractmethod
    def best(self, prompt: str) -> float:
        """Find the largest utility of any response to this prompt, in logits."""


@dataclass(frozen=True, kw_only=True)
class GoodWords(WordUtility):
    """Share of good words minus share of bad words: scale * (#good - #bad) / #words.

    An empty response scores 0.

    Attributes:
        good: rewarded words.
        bad: punished words, none of them rewarded too.
        scale: utility of a response of good words only, in logits, at least 0.
        link: name of the link.
    """

    good: tuple[str, ...] = GOOD
    bad: tuple[str, ...] = BAD
    scale: float = 10.0
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self, words=("good", "bad"), scale_low=0.0)
        for word in self.good:
            if word in self.bad:
                raise UserError(f"bad contains {word!r}, expected words that are not in good; drop one")

    def score(self, prompt: str, words: list[str]) -> float:
        """Subtract the share of bad words from that of good ones, scaled."""
        balance = sum((word in self.good) - (word in self.bad) for word in words)
        return self.scale * balance / max(len(words), 1)

    def best(self, prompt: str) -> float:
        """Give the utility of good words only."""
        return self.scale


@dataclass(frozen=True, kw_only=True)
class RareWord(WordUtility):
    """Rewards a word that the start policy hardly says, and mildly a longer response.

    scale * [word occurs] + length_scale * min(#words / target, 1). The second term is what a policy
    that does not explore learns. With a negative scale the rare word is bad: the control in which
    optimism must correct itself.

    Attributes:
        word: the rare word.
        scale: utility of saying it, in logits, of either sign.
        length_scale: utility of `target` or more words, in logits, at least 0.
        target: number of words from which on more bring nothing.
        link: name of the link.
    """

    word: str = "because"
    scale: float = 4.0
    length_scale: float = 1.0
    target: int = 8
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self)
        object.__setattr__(self, "word", checks.words("word", [self.word])[0])
        length_scale = checks.number("length_scale", self.length_scale, low=0.0)
        object.__setattr__(self, "length_scale", length_scale)
        object.__setattr__(self, "target", checks.integer("target", self.target, low=1))

    def score(self, prompt: str, words: list[str]) -> float:
        """Sum the rare word's reward and the length's."""
        length = self.length_scale * min(len(words) / self.target, 1.0)
        return self.scale * (self.word in words) + length

    def best(self, prompt: str) -> float:
        """Give the utility of `target` words or more, the rare one among them if it is good."""
        return max(self.scale, 0.0) + self.length_scale


@dataclass(frozen=True, kw_only=True)
class Length(WordUtility):
    """Rewards responses of a given length: -scale * |#words - target|.

    Attributes:
        target: the wanted number of words.
        scale: logits lost for each word too many or too few, at least 0.
        link: name of the link.
    """

    target: int = 12
    scale: float = 1.0
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self, scale_low=0.0)
        object.__setattr__(self, "target", checks.integer("target", self.target, low=0))

    def score(self, prompt: str, words: list[str]) -> float:
        """Compute minus the scaled distance from the target."""
        return -self.scale * abs(len(words) - self.target)

    def best(self, prompt: str) -> float:
        """Give the utility of exactly the target."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Variety(WordUtility):
    """Rewards many different words and no repeats.

    scale * (min(#distinct / target, 1) - #repeats / #words), #repeats = #words - #distinct. Without
    the first term one word alone would be perfect. An empty response scores 0.

    Attributes:
        target: number of different words from which on more bring nothing.
        scale: utility of `target` different words without a repeat, in logits, at least 0.
        link: name of the link.
    """

    target: int = 12
    scale: float = 10.0
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self, scale_low=0.0)
        object.__setattr__(self, "target", checks.integer("target", self.target, low=1))

    def score(self, prompt: str, words: list[str]) -> float:
        """Subtract the share of repeats from that of different words, scaled."""
        distinct = len(set(words))
        repeated = (len(words) - distinct) / max(len(words), 1)
        return self.scale * (min(distinct / self.target, 1.0) - repeated)

    def best(self, prompt: str) -> float:
        """Give the utility of `target` or more different words, each once."""
        return self.scale


@dataclass(frozen=True, kw_only=True)
class OnTopic(WordUtility):
    """Rewards coming back to the topic: the prompt's words that are not function words.

    scale * mean over topic words of min(#mentions / mentions, 1); 0 for a prompt without any.

    Attributes:
        mentions: how often each topic word should occur. An ordinary answer names its topic once;
            from 2 on there is something to learn.
        ignored: words of a prompt that are not its topic.
        scale: utility of mentioning everything often enough, in logits, at least 0.
        link: name of the link.
    """

    mentions: int = 2
    ignored: tuple[str, ...] = FUNCTION_WORDS
    scale: float = 12.0
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self, words=("ignored",), scale_low=0.0)
        object.__setattr__(self, "mentions", checks.integer("mentions", self.mentions, low=1))

    def topic(self, prompt: str) -> tuple[str, ...]:
        """Find the different topic words of a prompt, in order."""
        return _topic(prompt, self.ignored)

    def score(self, prompt: str, words: list[str]) -> float:
        """Scale the share of the wanted mentions."""
        topic = self.topic(prompt)
        if not topic:
            return 0.0
        counts = Counter(words)
        return self.scale * sum(min(counts[w] / self.mentions, 1.0) for w in topic) / len(topic)

    def best(self, prompt: str) -> float:
        """Give the utility of everything mentioned, if there is anything to mention."""
        return self.scale if self.topic(prompt) else 0.0


@dataclass(frozen=True, kw_only=True)
class Opening(WordUtility):
    """Rewards the first word: scale if it is one of `words`, else 0.

    Attributes:
        words: rewarded first words.
        scale: the reward, in logits, at least 0.
        link: name of the link.
    """

    words: tuple[str, ...] = ("we",)
    scale: float = 4.0
    link: str = "logistic"

    def __post_init__(self) -> None:
        _settle(self, words=("words",), scale_low=0.0)

    def score(self, prompt: str, words: list[str]) -> float:
        """Give the reward if the opening is right."""
        return self.scale if words and words[0] in self.words else 0.0

    def best(self, prompt: str) -> float:
        """Give the reward of a right opening."""
        return self.scale


@lru_cache(maxsize=4096)  # a prompt comes with many responses
def _topic(prompt: str, ignored: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words_of(prompt) if word not in ignored))


def _settle(oracle: Any, *, words: tuple[str, ...] = (), scale_low: float = -np.inf) -> None:
    """Check what the settings above have in common and store it in its final form."""
    links.link(oracle.link)
    # Frozen dataclasses are filled in this way, before anyone else sees them.
    object.__setattr__(oracle, "scale", checks.number("scale", oracle.scale, low=scale_low))
    for name in words:
        object.__setattr__(oracle, name, checks.words(name, getattr(oracle, name)))
