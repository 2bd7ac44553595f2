"""The vocabulary of sources that answer later: `Request`, `Answer`, `Source`; no waiting and no labels drawn here.

A plain oracle is a callable that answers at once. People, queues and services do not: they take requests, and some time
later there are answers. Such a source has two methods, `ask` and `collect`; whoever wants labels from it asks once and
collects as often as they like. What is not answered yet is not in what `collect` returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import ROUNDING, Oracle, innermost


@dataclass(frozen=True)
class Request:
    """One question: which of two responses to a prompt is better?

    Attributes:
        id: Names the question for ever. The same id always stands for the same texts: it is made of the world's root,
            round and row and of the texts themselves.
        round: Number of the round since the world's last seeded reset.
        row: Row of the world.
        prompt: The prompt.
        first: The response shown first.
        second: The response shown second.
    """

    id: str
    round: int
    row: int
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Answer:
    """What a source says of a request, once and for all.

    Attributes:
        id: The request's.
        win: Probability that the first response is preferred: 1.0 or 0.0 for somebody who decides, anything between for
            a judge that is not sure (the label is then drawn), NaN where the source declines to answer for good.
        tie: Probability of a declared tie; `Answer(id, 0.0, tie=1.0)` is one.
    """

    id: str
    win: float
    tie: float = 0.0


@runtime_checkable
class Source(Protocol):
    """Answers requests in its own time.

    Both methods may raise: that is a fault, not an answer. What was asked stays open, and asking again is the same
    question. A source that can wait may have a third method, `collect_last`: it is called in place of `collect` in the
    last round of an episode, and returns with everything that is open.
    """

    def ask(self, requests: Sequence[Request], /) -> None:
        """Take requests.

        Idempotent by id: a request that was taken before is put to nobody again, but answered from the record where
        there is an answer.
        """
        ...

    def collect(self) -> Iterable[Answer]:
        """Return answers that are there, in any order; one that was returned before may come again. Does not wait."""
        ...


def collected(source: Source, *, last: bool) -> Iterable[Answer]:
    """Return what a source has, and in a last round all that it owes where it can wait for that."""
    collect = getattr(source, "collect_last", None) if last else None
    return cast("Iterable[Answer]", (collect or source.collect)())


def answers_later(oracle: Any) -> TypeGuard[Source]:
    """Tell whether an oracle is a source with `ask` and `collect`, and not a callable that answers at once.

    Raises:
        UserError: It has one of the two methods, or is no oracle at all.
    """
    later = [callable(getattr(oracle, name, None)) for name in ("ask", "collect")]
    if all(later):
        return True
    if callable(oracle):
        return False
    missing = "collect" if later[0] else "ask" if later[1] else None
    raise UserError(
        f"oracle is {str(oracle)[:60]!r} "
        + (f"without a method {missing!r}" if missing else "and no function")
        + ", expected a function (prompts, first, second) -> probabilities, or a source with both ask and collect"
    )


def at_once_or_later(oracle: Oracle | Source) -> tuple[Oracle | None, Source | None]:
    """Return an oracle as what it is, a callable or a source; the other of the two is None.

    Raises:
        UserError: It is neither.
    """
    if answers_later(oracle):
        return None, oracle
    return cast("Oracle", oracle), None


def is_free(oracle: object) -> bool:
    """Tell whether its answers can be computed as often as one likes, by what it says of itself (`free`).

    Anything that does not say so may be paid for, and is asked only for what counts.
    """
    return not answers_later(oracle) and bool(getattr(innermost(oracle), "free", False))


def checked(answer: object) -> Answer:
    """Return an answer with its probabilities as floats in [0, 1], or NaN for `win`.

    Raises:
        UserError: It is no `Answer`, or says something impossible.
    """
    if not isinstance(answer, Answer) or not isinstance(answer.id, str):
        raise UserError(
            f"the source returned {str(answer)[:60]!r}, expected an Answer(id, win); return those that are there"
        )
    win, tie = _probability(answer, "win", answer.win), _probability(answer, "tie", answer.tie)
    if math.isnan(tie) or win + tie > 1.0 + ROUNDING:
        raise UserError(
            f"the answer to request {answer.id!r} has win {answer.win!r} and tie {answer.tie!r}, expected "
            "probabilities with a sum of at most 1; decline by win=nan and tie=0"
        )
    return Answer(answer.id, win, 0.0 if math.isnan(win) else min(tie, 1.0 - win))


def _probability(answer: Answer, name: str, value: object) -> float:
    def complain(what: str) -> UserError:
        return UserError(
            f"the answer to request {answer.id!r} has as {name} {what}, expected a probability in [0, 1], or nan to "
            "decline for good; an answer that is not there yet is left out of what collect returns"
        )

    values = checks.real_array([value], complain)
    if values.shape != (1,):
        raise complain(f"an array of shape {values.shape[1:]}")
    number = float(values[0])
    if number < -ROUNDING or number > 1.0 + ROUNDING:
        raise complain(f"{number:g}")
    return number if math.isnan(number) else min(max(number, 0.0), 1.0)
