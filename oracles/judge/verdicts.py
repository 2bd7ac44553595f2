"""What a judge's reply says: by the log-probabilities of its verdict's token, else by one word, and by no prose."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from duelenv.ground import checks
from duelenv.oracles.services.retrying import Unreadable

#: How verdicts may be asked for and read.
VERDICTS: Final = ("auto", "logprobs", "word", "scale")

#: The least probability that the words of a verdict have together where one is read from log-probabilities. Below it
#: the model was about to say something else, and what is left would be made of noise.
LEAST_MASS: Final = 0.5


class Verdict(NamedTuple):
    """Of one request, about the responses in the order in which they were shown.

    Attributes:
        win: Probability that the first shown is preferred.
        tie: Probability of a tie.
        said: Whether it was one word, without probabilities.
    """

    win: float
    tie: float
    said: bool

    @property
    def expected(self) -> float:
        """A tie counted as half a win."""
        return self.win + 0.5 * self.tie


class NoVerdict(Unreadable):
    """A reply in good order in which the model gives none: it refuses, or talks."""


@dataclass(frozen=True)
class Token:
    """One place of a reply.

    Attributes:
        text: What was drawn there.
        log_probs: Of the likeliest tokens, with that one, by their text.
    """

    text: str
    log_probs: Mapping[str, float]


@dataclass(frozen=True)
class Reply:
    """What came back from a model.

    Attributes:
        text: What it says.
        tokens: Its beginning with log-probabilities; empty where the server gives none.
        finished: Whether it ended by itself.
        refusal: What the service says in place of a reply; empty where it replied.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    finished: bool = True
    refusal: str = ""


@dataclass(frozen=True)
class Reading:
    """How verdicts are asked for and read.

    Attributes:
        grades: What each word means: (win, tie) of the response that is shown first.
        evidence: "logprobs", "word", or "auto": from log-probabilities where there are any.
    """

    grades: Mapping[str, tuple[float, float]]
    evidence: str

    @property
    def form(self) -> str:
        """What the model is told of how to answer."""
        if "A" not in self.grades:
            last = len(self.grades)
            middle = f" {(last + 1) // 2} means that they are equally good," if last % 2 else ""
            return (
                f"Answer with one number from 1 to {last} and nothing else: 1 means that A is much better,{middle} "
                f"{last} means that B is much better."
            )
        tie = ", C if they are equally good" if "C" in self.grades else ""
        return f"Answer with one letter and nothing else: A if response A is better, B if response B is better{tie}."

    def verdict(self, reply: Reply) -> Verdict:
        """Read a reply.

        Raises:
            NoVerdict: It holds none in the form that was asked for.
        """
        if reply.refusal:
            raise NoVerdict(f"the service declined: {reply.refusal[:120]!r}")
        if self.evidence != "word" and reply.tokens and _first_word(reply.text) in self.grades:
            verdict = self._by_mass(reply.tokens)
            if verdict is not None:
                return verdict
        if self.evidence == "logprobs":
            what = "gave no log-probabilities" if not reply.tokens else f"began with {reply.text[:60]!r}"
            raise NoVerdict(f"the model {what}, expected those of {', '.join(self.grades)} in the first place")
        word = _word_of(reply.text) if reply.finished else ""
        if word not in self.grades:
            cut = "" if reply.finished else " and was cut at 'max_tokens'"
            raise NoVerdict(f"the model said {reply.text[:60]!r}{cut}, expected one of {', '.join(self.grades)} alone")
        return Verdict(*self.grades[word], said=True)

    def _by_mass(self, tokens: tuple[Token, ...]) -> Verdict | None:
        """Read the verdict off probabilities at the first token that is not blank; None where that is no verdict."""
        token = next((token for token in tokens if _bare(token.text)), None)
        if token is None or _bare(token.text) not in self.grades:  # such as the thoughts before a reply
            return None
        masses = dict.fromkeys(self.grades, 0.0)
        for text, log_prob in token.log_probs.items():
            if _bare(text) in masses:
                masses[_bare(text)] += math.exp(min(log_prob, 0.0))
        total = sum(masses.values())
        if total < LEAST_MASS:
            return None
        win = sum(mass * self.grades[word][0] for word, mass in masses.items()) / total
        tie = sum(mass * self.grades[word][1] for word, mass in masses.items()) / total
        # Rounding may leave win + tie a hair above 1.
        return Verdict(min(win, 1.0), min(tie, 1.0 - min(win, 1.0)), said=False)


def reading(verdict: object, scale: object = 5, ties: object = False) -> Reading:
    """Make the reading of the settings.

    Args:
        verdict: One of `VERDICTS`. "scale" asks for a number from 1 (the first is much better) to `scale`.
        scale: Its number of grades, 2 to 9. The grade g of n stands for P(first preferred) = (n - g) / (n - 1), and the
            middle of an odd number for a tie.
        ties: Whether a letter for a tie is offered beside A and B.

    Raises:
        UserError: One of them is none of these.
    """
    kind, last = checks.one_of("verdict", verdict, VERDICTS), checks.integer("scale", scale, low=2, high=9)
    offered = checks.flag("ties", ties)
    if kind == "scale":
        numbers = range(1, last + 1)
        grades = {
            str(grade): (0.0, 1.0) if 2 * grade == last + 1 else ((last - grade) / (last - 1), 0.0) for grade in numbers
        }
        return Reading(grades, "auto")
    return Reading({"A": (1.0, 0.0), "B": (0.0, 0.0), **({"C": (0.0, 1.0)} if offered else {})}, kind)


#: What tokenisers and models put around a word: spaces in three spellings, quotes, brackets, stars.
_AROUND: Final = " \t\r\n\u0120\u2581\"'`*[]().:"
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_ALONE: Final = re.compile(rf"[{re.escape(_AROUND)}]*([A-Ca-c1-9])(?!\w| +\w)")
_MARKED: Final = re.compile(r"\[\[([A-Ca-c1-9])\]\]")


def _first_word(text: str) -> str:
    """Read the letter or number that begins a reply, unless words follow it on its line: "A good answer" is prose."""
    found = _ALONE.match(text)
    return found[1].upper() if found else ""


def _bare(token: str) -> str:
    return token.strip(_AROUND).upper()


def _word_of(text: str) -> str:
    """Read the word of a reply that is only a verdict, or whose last line is one in double brackets; else nothing."""
    said = _THOUGHT.sub("", text, count=1).strip()
    lines = said.splitlines()
    marked = _MARKED.fullmatch(lines[-1].strip()) if lines else None
    return marked[1].upper() if marked else said.strip("*.").upper()


def read_reply(body: Any, model: str | None) -> Reply:
    """Read a reply of the shape that chat completions have (OpenAI, vLLM, SGLang).

    Args:
        body: As read from JSON.
        model: Whose reply it has to be; None where any will do.

    Raises:
        Unreadable: It has another shape, or is to another request.
    """
    if not isinstance(body, Mapping):
        raise Unreadable(f"the answer is no object but {type(body).__name__}")
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        count = len(choices) if isinstance(choices, list) else "no"
        raise Unreadable(f"the answer has {count} choices, expected one")
    echoed = body.get("model")
    if model is not None and not _same_model(model, echoed):
        raise Unreadable(f"the answer is of the model {str(echoed)[:80]!r}, asked was {model!r}")
    choice = choices[0]
    message = choice.get("message")
    if choice.get("index", 0) != 0 or not isinstance(message, Mapping) or message.get("role") != "assistant":
        raise Unreadable("the answer's choice is no message of the assistant")
    text, refusal, ending = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    if ending == "content_filter":
        refusal = refusal or "content_filter"
    if ending in ("error", "abort"):
        raise Unreadable(f"the answer was broken off by the server ({ending})")
    if not isinstance(text, str) and not refusal:
        if text is not None or ending is None:
            raise Unreadable("the answer's message has no content")
        text = ""  # all tokens went into thoughts, or to a tool
    return Reply(
        text=text if isinstance(text, str) else "",
        tokens=_tokens(choice.get("logprobs")),
        finished=ending in ("stop", None),
        refusal=str(refusal) if refusal else "",
    )


def _same_model(asked: str, echoed: object) -> bool:
    """Tell whether a name may be that of the model that was asked: an alias is often told with a date."""
    if not isinstance(echoed, str) or not echoed:
        return False
    one, other = asked.rsplit("/", 1)[-1].lower(), echoed.rsplit("/", 1)[-1].lower()
    return one.startswith(other) or other.startswith(one)


def _tokens(given: Any) -> tuple[Token, ...]:
    """Read the tokens of `logprobs`, up to the first that is not blank and no further."""
    content = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(content, list):
        return ()
    tokens = []
    for place in content:
        text, own = _token(place)
        log_probs: dict[str, float] = {}
        for one in place.get("top_logprobs") or ():
            word, log_prob = _token(one)
            # Two tokens may read alike: their probabilities add up.
            log_probs[word] = float(_log_sum(log_probs[word], log_prob)) if word in log_probs else log_prob
        log_probs.setdefault(text, own)
        if sum(math.exp(min(one, 0.0)) for one in log_probs.values()) > 1.01:
            raise Unreadable("the answer's log-probabilities add up to more than 1")
        tokens.append(Token(text, log_probs))
        if _bare(text):
            break
    return tuple(tokens)


def _token(given: Any) -> tuple[str, float]:
    text = given.get("token") if isinstance(given, Mapping) else None
    log_prob = given.get("logprob") if isinstance(given, Mapping) else None
    good = isinstance(log_prob, int | float) and not isinstance(log_prob, bool) and not math.isnan(log_prob)
    # Servers round: a hair above 0 is 0.
    if not isinstance(text, str) or not good or float(log_prob) > 1e-3:  # type: ignore[arg-type]
        raise Unreadable("the answer's log-probabilities are none")
    return text, float(log_prob)  # type: ignore[arg-type]


def _log_sum(one: float, other: float) -> float:
    high = max(one, other)
    return high if math.isinf(high) else high + math.log(math.exp(one - high) + math.exp(other - high))
