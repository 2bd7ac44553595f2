"""What a desk holds, counted: how far it is, how long a label takes, who said what. Changes nothing."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.store import restored
from duelenv.oracles.people.verdicts import Verdict

#: Longer than this between question and answer, and somebody was not at it.
_AWAY_SECONDS = 1800.0


@dataclass(frozen=True)
class Said:
    """One answer of one annotator, in the order in which they came.

    Attributes:
        question: The question's number.
        annotator: Who.
        verdict: What they said, of the page as they saw it.
        win: Probability that the first response is preferred; None where they declined.
        tie: That of a tie.
        swapped: Whether they saw the second response on the left.
        seconds: From question to answer; None where that is not known.
        at: When, in seconds since 1970.
    """

    question: int
    annotator: str
    verdict: Verdict
    win: float | None
    tie: float
    swapped: bool
    seconds: float | None
    at: float

    @property
    def value(self) -> float | None:
        """The label that it stands for, a tie half a win; None where they declined."""
        return None if self.win is None else self.win + self.tie / 2.0


@dataclass(frozen=True)
class Asked:
    """A question on the desk.

    Attributes:
        number: Its place.
        id: Its name.
        prompt: The prompt.
        first: The first response.
        second: The second one.
    """

    number: int
    id: str
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Standing:
    """How far a desk is.

    Attributes:
        questions: Questions that somebody wants answers to, or has got.
        wanted: Answers that these take, by all annotators together.
        given: Answers that are there of these.
        seconds: Median time of an answer; None without one.
        mine: Answers of the annotator who looks.
    """

    questions: int
    wanted: int
    given: int
    seconds: float | None
    mine: int

    @property
    def seconds_left(self) -> float | None:
        """What is left for one person at this speed; None where that is not known."""
        return None if self.seconds is None else self.seconds * (self.wanted - self.given)


def said(desk: Desk) -> list[Said]:
    """Return all answers that were not taken back, without skips."""
    with desk.store.reading() as connection:
        rows = connection.execute(
            "SELECT question, annotator, verdict, win, tie, swapped, seconds, at FROM answers "
            "WHERE undone IS NULL AND verdict != 'skip' ORDER BY number"
        ).fetchall()
    return [
        Said(number, who, Verdict(verdict), win, tie, bool(swapped), seconds, at)
        for number, who, verdict, win, tie, swapped, seconds, at in rows
    ]


def asked(desk: Desk) -> list[Asked]:
    """Return all questions that were ever put down, in their order."""
    with desk.store.reading() as connection:
        rows = connection.execute("SELECT number, id, prompt, first, second FROM questions ORDER BY number").fetchall()
    return [Asked(number, key, *map(restored, texts)) for number, key, *texts in rows]


def standing(desk: Desk, annotator: str = "") -> Standing:
    """Count how far a desk is."""
    with desk.store.reading() as connection:
        # An answer beyond those that are wanted brings no question further.
        questions, wanted, given = connection.execute(
            "SELECT count(*), coalesce(sum(max(wanted, 0)), 0), coalesce(sum(min(given, wanted)), 0) FROM questions "
            "WHERE askers > 0 OR given > 0"
        ).fetchone()
        times = connection.execute(
            "SELECT seconds FROM answers WHERE undone IS NULL AND verdict != 'skip' AND seconds <= ? "
            "ORDER BY number DESC LIMIT 1000",
            (_AWAY_SECONDS,),
        ).fetchall()
        mine = connection.execute(
            "SELECT count(*) FROM answers WHERE annotator = ? AND undone IS NULL AND verdict != 'skip'", (annotator,)
        ).fetchone()[0]
    seconds = statistics.median(row[0] for row in times) if times else None
    return Standing(questions, wanted, given, seconds, mine)


def last_answer(desk: Desk, annotator: str) -> Verdict | None:
    """Return what an annotator said last and did not take back."""
    with desk.store.reading() as connection:
        row = connection.execute(
            "SELECT verdict FROM answers WHERE annotator = ? AND undone IS NULL ORDER BY number DESC LIMIT 1",
            (annotator,),
        ).fetchone()
    return None if row is None else Verdict(row[0])
