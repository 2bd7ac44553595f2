"""The desk: questions of whoever asks, answers of people, each on the disk before anybody goes on.

Those who ask put questions down and collect what is settled. Those who answer take the next question, say something and
may take it back until it is settled.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.people.store import Store, restored, stored
from duelenv.oracles.people.verdicts import Verdict
from duelenv.oracles.sources import Answer, Request

LEASE_SECONDS: Final = 600.0
"""For so long a question that somebody looks at is shown to nobody else."""

#: Of one statement; SQLite takes 999 at least.
_PARAMETERS: Final = 500

Outcome = Literal["recorded", "repeated", "answered before", "taken back", "nothing", "learnt"]
"""What became of something that an annotator did."""


@dataclass(frozen=True)
class Overlap:
    """Which questions several people answer: a share of them, chosen by a key, whoever asks and in whatever order.

    Attributes:
        share: In [0, 1].
        raters: How many people answer one of these.
    """

    share: float = 0.0
    raters: int = 2

    def __post_init__(self) -> None:
        checks.number("overlap", self.share, low=0.0, high=1.0)
        checks.integer("raters", self.raters, low=2)


@dataclass(frozen=True)
class Question:
    """A question as an annotator sees it.

    Attributes:
        number: Its place on the desk.
        prompt: The prompt.
        left: The response on the left.
        right: The response on the right.
        swapped: Whether the left one is the second response.
    """

    number: int
    prompt: str
    left: str
    right: str
    swapped: bool


class Desk:
    """Questions and answers in one SQLite file.

    Args:
        path: The file; made if absent.
        overlap: Which questions several people answer; holds for questions put down from now on.
        now: Seconds since 1970.

    Raises:
        UserError: The file is no desk.
    """

    def __init__(self, path: Path, overlap: Overlap | None = None, *, now: Callable[[], float] = time.time) -> None:
        self.store = Store(path)
        self.overlap = overlap or Overlap()
        self._now = now

    # Those who ask ---------------------------------------------------------------------------------------------------

    def put(self, requests: Iterable[Request], *, alone: bool = False) -> None:
        """Put questions down; one that lies there, or did, keeps its place and its answers, and is wanted once more.

        Args:
            requests: The questions.
            alone: Whether nobody else asks at this desk, so that all other questions are withdrawn.

        Raises:
            UserError: A question lies there with other texts.
        """
        rows = [(one.id, *map(stored, (one.prompt, one.first, one.second)), self._wanted(one.id)) for one in requests]
        with self.store.writing() as connection:
            if alone:
                connection.execute("UPDATE questions SET askers = 0")
            for row in rows:
                found = connection.execute(
                    "SELECT prompt, first, second FROM questions WHERE id = ?", row[:1]
                ).fetchone()
                if found is not None and found != row[1:4]:
                    raise UserError(
                        f"the question {row[0]!r} lies on the desk {str(self.store.path)!r} with other texts; an id "
                        "stands for the same texts for ever"
                    )
                connection.execute(
                    "INSERT INTO questions (id, prompt, first, second, wanted, askers) VALUES (?, ?, ?, ?, ?, 1) "
                    "ON CONFLICT (id) DO UPDATE SET askers = askers + 1, wanted = max(wanted, excluded.wanted)",
                    row,
                )

    def _wanted(self, key: str) -> int:
        return self.overlap.raters if self._draw("overlap", key) < self.overlap.share else 1

    def _draw(self, *words: str) -> float:
        """Draw a number in [0, 1) for words, the same at every start of this desk."""
        digest = hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), key=self.store.key, digest_size=7)
        return int.from_bytes(digest.digest(), "big") / 256.0**7

    def share_of(self, count: int, ids: Iterable[str]) -> float:
        """Return the share by which `count` of these questions, or all, are answered by several people."""
        draws = sorted(self._draw("overlap", key) for key in ids)
        return 1.0 if count >= len(draws) else draws[count]  # the least draw that is left out

    def withdraw(self, ids: Iterable[str]) -> None:
        """Say that one of those who asked wants no answer any more; what nobody wants is shown to nobody."""
        with self.store.writing() as connection:
            connection.executemany(
                "UPDATE questions SET askers = max(askers - 1, 0) WHERE id = ?", [(key,) for key in ids]
            )

    def settle(self, ids: Sequence[str]) -> list[Answer]:
        """Return what is answered of some questions, by as many people as are wanted; from now on it cannot change.

        The answers of several people are averaged; where all of them declined, the answer is NaN.
        """
        answers = []
        with self.store.writing() as connection:
            for start in range(0, len(ids), _PARAMETERS):
                some = ids[start : start + _PARAMETERS]
                marks = ",".join("?" * len(some))
                connection.execute(
                    f"""UPDATE questions SET settled = 1, win = said.win, tie = said.tie
                    FROM (SELECT question, avg(win) AS win, avg(CASE WHEN win IS NULL THEN NULL ELSE tie END) AS tie
                          FROM answers WHERE undone IS NULL AND verdict != 'skip' AND question IN (
                              SELECT number FROM questions
                              WHERE settled = 0 AND given >= wanted AND id IN ({marks}))
                          GROUP BY question) AS said
                    WHERE said.question = number""",
                    some,
                )
                found = connection.execute(
                    f"SELECT id, win, tie FROM questions WHERE settled = 1 AND id IN ({marks})", some
                )
                answers += [Answer(key, float("nan") if win is None else win, tie or 0.0) for key, win, tie in found]
        return answers

    # Those who answer ------------------------------------------------------------------------------------------------

    def next_for(self, annotator: str, wish: int | None = None) -> Question | None:
        """Return the question that an annotator answers next, and keep it from others for a while; None for none.

        What they skipped comes back last. What others look at is left out, but where more people are wanted.

        Args:
            annotator: Their name.
            wish: Number of the question that they would like, where it is open to them.
        """
        now = self._now()
        open_to_me = """settled = 0 AND askers > 0 AND given < wanted
            AND NOT EXISTS (SELECT 1 FROM answers WHERE question = questions.number AND annotator = :me
                            AND undone IS NULL AND verdict != 'skip')
            AND given + (SELECT count(*) FROM shown WHERE question = questions.number AND annotator != :me
                         AND at > :recent AND NOT EXISTS (
                             SELECT 1 FROM answers WHERE question = shown.question AND annotator = shown.annotator
                             AND undone IS NULL AND verdict != 'skip')) < wanted"""
        skips = """(SELECT max(at) FROM answers WHERE question = questions.number AND annotator = :me
                    AND verdict = 'skip' AND undone IS NULL)"""
        values = {"me": annotator, "recent": now - LEASE_SECONDS, "wish": wish}
        select = f"SELECT number, id, prompt, first, second FROM questions WHERE {open_to_me}"
        with self.store.writing() as connection:
            for rest in ("AND number = :wish", f"AND {skips} IS NULL ORDER BY number", f"ORDER BY {skips}, number"):
                found = connection.execute(f"{select} {rest} LIMIT 1", values).fetchone()
                if found is not None:
                    break
            # Whoever goes on to another question leaves the one before to others.
            connection.execute(
                "DELETE FROM shown WHERE annotator = ? AND question IS NOT ?", (annotator, found and found[0])
            )
            if found is None:
                return None
            connection.execute(
                "INSERT INTO shown VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
                (found[0], annotator, now),
            )
        return self._as_seen(annotator, *found)

    def _as_seen(self, annotator: str, number: int, key: str, *texts: bytes) -> Question:
        prompt, first, second = map(restored, texts)
        swapped = self._is_swapped(key, annotator)
        return Question(number, prompt, *((second, first) if swapped else (first, second)), swapped)

    def _is_swapped(self, key: str, annotator: str) -> bool:
        return self._draw("order", key, annotator) < 0.5

    def record(self, annotator: str, number: int, verdict: Verdict, post: str) -> Outcome:
        """Write down what an annotator says of a question, undoing the order in which they saw it.

        Args:
            annotator: Their name.
            number: The question's.
            verdict: What they say of the responses as they stood on the page.
            post: Names this act for ever: the same one again, as from a double click, changes nothing.

        Raises:
            UserError: There is no such question.
        """
        now = self._now()
        with self.store.writing() as connection:
            if not _is_new(connection, post):
                return "repeated"
            found = connection.execute("SELECT id FROM questions WHERE number = ?", (number,)).fetchone()
            if found is None:
                raise UserError(f"there is no question {number} on this desk; open the page again")
            if _answered_by(connection, number, annotator):
                return "answered before"
            shown = connection.execute(
                "SELECT at FROM shown WHERE question = ? AND annotator = ?", (number, annotator)
            ).fetchone()
            swapped = self._is_swapped(found[0], annotator)
            win, tie = verdict.preference(swapped)
            connection.execute(
                "INSERT INTO answers (question, annotator, verdict, win, tie, swapped, seconds, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # NaN becomes NULL
                (number, annotator, str(verdict), win, tie, swapped, shown and max(now - shown[0], 0.0), now),
            )
            connection.execute("DELETE FROM shown WHERE question = ? AND annotator = ?", (number, annotator))
            _count(connection, number)
        return "recorded"

    def undo(self, annotator: str, post: str) -> tuple[Outcome, int | None]:
        """Take back the last thing that an annotator said; it stays in the file, marked as undone.

        Returns:
            "taken back" and the question's number; "nothing" where there is nothing to take back; "learnt" where the
            answer was given to a run, which may have learnt from it; or "repeated".
        """
        with self.store.writing() as connection:
            if not _is_new(connection, post):
                return "repeated", None
            last = connection.execute(
                "SELECT answers.number, question, verdict, settled FROM answers JOIN questions "
                "ON questions.number = question WHERE annotator = ? AND undone IS NULL "
                "ORDER BY answers.number DESC LIMIT 1",
                (annotator,),
            ).fetchone()
            if last is None:
                return "nothing", None
            answer, number, verdict, settled = last
            if settled and verdict != Verdict.SKIP:
                return "learnt", number
            connection.execute("UPDATE answers SET undone = ? WHERE number = ?", (self._now(), answer))
            _count(connection, number)
        return "taken back", number


def _is_new(connection: sqlite3.Connection, post: str) -> bool:
    return connection.execute("INSERT OR IGNORE INTO posts VALUES (?)", (post,)).rowcount == 1


def _answered_by(connection: sqlite3.Connection, number: int, annotator: str) -> Any:
    return connection.execute(
        "SELECT 1 FROM answers WHERE question = ? AND annotator = ? AND undone IS NULL AND verdict != 'skip'",
        (number, annotator),
    ).fetchone()


def _count(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        "UPDATE questions SET given = (SELECT count(*) FROM answers WHERE question = questions.number "
        "AND undone IS NULL AND verdict != 'skip') WHERE number = ?",
        (number,),
    )
