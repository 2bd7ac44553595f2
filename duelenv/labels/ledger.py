"""The ledger of a cell: what was asked, what was answered, and what the agent was told when. Asks nobody itself.

A question is written down before it is asked and its answer before anybody acts on it, each on the disk before the next
thing happens. A cell that died goes on from its last checkpoint and meets the same questions again: those that have an
answer get it from here, in the round in which it came, and those that were put to somebody when the process died are
put again, under the same id.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from duelenv.labels.arrivals import Arrivals, Observation
from duelenv.labels.ledger_file import LedgerFile, Row, Value
from duelenv.oracles.sources import Answer, Request

Purpose = Literal["duel", "evaluation"]
"""Why a question was asked: an agent fought the duel, or `evaluate` compared two responses."""
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

#: Rounds told that may wait for the next commit; they follow from answers and can be played again.
_WAITING_ROWS: Final = 20_000
#: Texts whose number is remembered; those of a round are looked up when it is asked and when it is told.
_RECENT_TEXTS: Final = 4_096
#: Of one statement; SQLite takes 999 at least.
_PARAMETERS: Final = 500


class Counts(NamedTuple):
    """What a ledger holds.

    Attributes:
        asked: Questions of duels, but for superseded ones.
        answered: Those with an answer; a source that declines for good has answered.
        superseded: Questions of duels whose round was played again with other texts, as on another processor.
        evaluations: Questions that `evaluate` asked.
        asked_again: How often a question was put again, since a process died while it was put.
        spent: Answers that may have been paid for: every question as often as it was put, and never what was answered
            elsewhere.
    """

    asked: int
    answered: int
    superseded: int
    evaluations: int
    asked_again: int
    spent: int


class Ledger:
    """The ledger of one cell, written by the one process that plays it.

    Args:
        folder: Where its files lie; made if absent.
        before_spending: Is told how much will have been spent after the next questions, and may raise to keep them from
            being asked.

    Raises:
        UserError: Its files are damaged beyond repair, or the disk refuses.
    """

    def __init__(self, folder: Path, before_spending: Callable[[int], None] | None = None) -> None:
        self._file = LedgerFile(folder)
        self._query = self._file.connection.execute
        self._before_spending = before_spending
        self._spent = counts(self._query).spent
        self._told: dict[tuple[int, int], Row] = {}  # duels that wait for the next commit
        self._new_texts: dict[str | bytes, int] = {}
        self._recent_texts: dict[str, int] = {}
        found = self._query("SELECT MAX(number) FROM rounds").fetchone()[0]
        self._closed = -1 if found is None else int(found)
        self._texts = self._query("SELECT COUNT(*) FROM texts").fetchone()[0]

    @property
    def healed(self) -> list[str]:
        """What was made good when the files were opened, as sentences."""
        return self._file.healed

    @property
    def counts(self) -> Counts:
        """What it holds."""
        return counts(self._query)

    # Questions -------------------------------------------------------------------------------------------------------

    def put(self, number: int, requests: Sequence[Request], purpose: Purpose = "duel") -> dict[str, Answer]:
        """Write down the questions of a round, before they are asked.

        Questions of an earlier life of the same round and row that are not among them are superseded.

        Args:
            number: The round in which they are asked.
            requests: All of them, distinct ids.
            purpose: What for.

        Returns:
            The answers that are known already, by id. All others may now be asked.

        Raises:
            UserError: The disk refuses.
            Exception: What `before_spending` raises; then nothing is written.
        """
        known = self._known(requests)
        rows: list[Row] = []
        spends = 0
        for request in requests:
            before, answer = known.get(request.id, (None, None))
            if before is not None and (answer is not None or (purpose == "duel" and number <= self._closed)):
                times = before.times  # nothing is uncertain: it was answered, or its source took it
                if not before.superseded:
                    continue
            else:
                times, spends = 1 if before is None else before.times + 1, spends + 1
            texts = (self._text(request.prompt), self._text(request.first), self._text(request.second))
            rows.append((request.id, purpose, request.round, request.row, *texts, times, 0))
        if purpose == "duel":
            rows += self._superseded(number, {request.id for request in requests})
        if spends and self._before_spending is not None:
            self._before_spending(self._spent + spends)
        if rows:
            self._commit({"requests": rows})
        self._spent += spends
        return {key: answer for key, (_, answer) in known.items() if answer is not None}

    def answer(self, number: int, answers: Iterable[Answer], *, close: bool = True) -> None:
        """Write down what was answered, before anybody acts on it.

        Args:
            number: The round in which the answers came.
            answers: To questions that were put.
            close: Whether these are all answers of the round, so that its questions were all taken.
        """
        rows: list[Row] = [(one.id, number, _null(one.win), one.tie) for one in answers]
        changes: dict[str, list[Row]] = {"answers": rows} if rows else {}
        if close and number > self._closed:
            changes["rounds"] = [(number,)]
        if changes:
            self._commit(changes, precious=True)
        if close:
            self._closed = max(self._closed, number)

    def open_questions(self) -> list[Request]:
        """Return the questions of duels that have no answer yet, in order of round and row."""
        found = self._query(
            "SELECT id, requests.round, row, p.text, a.text, b.text FROM requests LEFT JOIN answers USING (id) "
            "JOIN texts p ON p.number = prompt JOIN texts a ON a.number = first JOIN texts b ON b.number = second "
            "WHERE purpose = 'duel' AND superseded = 0 AND answers.id IS NULL ORDER BY requests.round, row"
        )
        return [Request(key, number, row, *map(text_of, words)) for key, number, row, *words in found]

    def take_in(self, answered: Iterable[tuple[Request, Answer]], purpose: Purpose = "duel") -> int:
        """Write down questions with answers that were given elsewhere; what has an answer here keeps it.

        A round is not closed by them: when it is played, those of its questions that they leave open are asked. An
        answer to a round that was closed before comes in the next one.

        Args:
            answered: All of them; of two with one id the last counts.
            purpose: What the questions were asked for.

        Returns:
            How many were new. Not among them are those in whose place another question stands here.
        """
        given = {request.id: (request, answer) for request, answer in answered}
        known = self._known([request for request, _ in given.values()])
        rows: list[Row] = []
        answers: list[Row] = []
        for key, (request, answer) in given.items():
            before, has = known.get(key, (None, None))
            if has is not None:
                continue
            if before is None:
                if purpose == "duel" and (request.round <= self._closed or self._stands(request.round, request.row)):
                    continue
                texts = (self._text(request.prompt), self._text(request.first), self._text(request.second))
                rows.append((key, purpose, request.round, request.row, *texts, 0, 0))  # was never put from here
            # A round that was played is not played again: its answer comes in the next one.
            answers.append((key, max(request.round, self._closed + 1), _null(answer.win), answer.tie))
        if answers:
            self._commit({"requests": rows, "answers": answers}, precious=True)
        return len(answers)

    def answers_to(self, requests: Sequence[Request]) -> dict[str, Answer]:
        """Return the answers that are known, by id."""
        return {key: answer for key, (_, answer) in self._known(requests).items() if answer is not None}

    def among(self, requests: Sequence[Request]) -> set[str]:
        """Return the ids of those questions that were put before."""
        return set(self._known(requests))

    def is_closed(self, number: int) -> bool:
        """Tell whether a round was played before, so that its answers are those that came then."""
        return number <= self._closed

    def came_in(self, number: int) -> list[Answer]:
        """Return the answers that came in a round."""
        return [
            Answer(key, _nan(win), tie)
            for key, win, tie in self._query(
                "SELECT id, win, tie FROM answers JOIN requests USING (id) "
                "WHERE answers.round = ? AND purpose = 'duel' ORDER BY answers.rowid",
                (number,),
            )
        ]

    def evaluations(self, number: int) -> int:
        """Return how many comparisons `evaluate` had asked by the start of a round."""
        return int(
            self._query(
                "SELECT COUNT(*) FROM requests WHERE purpose = 'evaluation' AND round <= ?", (number,)
            ).fetchone()[0]
        )

    def answered_before(self, number: int) -> int:
        """Return how many answers came before a round: a checkpoint of that round was taken with them."""
        return int(
            self._query(
                "SELECT COUNT(*) FROM answers JOIN requests USING (id) WHERE answers.round < ? AND purpose = 'duel'",
                (number,),
            ).fetchone()[0]
        )

    # What the agent was told -----------------------------------------------------------------------------------------

    def tell(
        self,
        number: int,
        observation: Observation,
        actions: NDArray[np.int64],
        asked: NDArray[np.bool_] | None,
        labels: NDArray[np.float64],
        late: Arrivals,
    ) -> None:
        """Keep a round's duels as the agent heard of them; on the disk with the next commit.

        Args:
            number: The round.
            observation: What was shown; texts are taken from `prompt` and `responses` where it has them.
            actions: int64 [N, 2] or [N, 3].
            asked: Whose label was asked for, bool [N]; None for everybody's.
            labels: float64 [N]; NaN where none came.
            late: Labels of earlier rounds that came with this one.
        """
        texts: list[tuple[Value, ...]] = [(None, None, None)] * len(actions)
        if "responses" in observation:
            responses, rows = observation["responses"], np.arange(len(actions))
            told = (observation["prompt"], responses[rows, actions[:, 0]], responses[rows, actions[:, 1]])
            texts = [tuple(self._text(str(text)) for text in words) for words in zip(*told, strict=True)]
        wanted = [1] * len(actions) if asked is None else asked.astype(int).tolist()
        for row, (pair, words, want, label) in enumerate(
            zip(actions[:, :2].tolist(), texts, wanted, labels.tolist(), strict=True)
        ):
            told_in = None if math.isnan(label) else number
            self._told[number, row] = (number, row, *pair, *words, want, _null(label), told_in)
        for past, row, label in zip(late.round.tolist(), late.row.tolist(), late.label.tolist(), strict=True):
            before = self._told.get((past, row)) or self._duel(past, row)
            if before is not None:
                self._told[past, row] = (*before[:8], _null(label), number)
        if len(self._told) > _WAITING_ROWS:
            self.flush()

    def flush(self) -> None:
        """Bring everything told so far to the disk."""
        if self._told or self._new_texts:
            self._commit({})

    def belongs_to(self, cell: str) -> bool:
        """Tell whether this is the ledger of a cell; a new one becomes it."""
        found = self._query("SELECT value FROM meta WHERE name = 'cell'").fetchone()
        if found is None:
            self._commit({"meta": [("cell", cell)]})
        return found is None or found[0] == cell

    def close(self) -> None:
        """Bring everything to the disk and close the files."""
        try:
            if not self._file.broken:  # whoever broke it has said why
                self.flush()
        finally:
            self._file.close()

    # Rows ------------------------------------------------------------------------------------------------------------

    def _commit(self, changes: Mapping[str, Sequence[Row]], *, precious: bool = False) -> None:
        told = list(self._told.values())
        words: list[Row] = [(number, text, _digest(text)) for text, number in self._new_texts.items()]
        extra: dict[str, list[Row]] = {"texts": words} if words else {}
        if told:
            extra["duels"] = told
        self._file.write({**extra, **changes}, precious=precious)
        self._told, self._new_texts = {}, {}

    def _known(self, requests: Sequence[Request]) -> dict[str, tuple[_Before, Answer | None]]:
        """Return what is down about these questions."""
        known = {}
        for start in range(0, len(requests), _PARAMETERS):
            keys = [request.id for request in requests[start : start + _PARAMETERS]]
            for key, times, superseded, answered, win, tie in self._query(
                "SELECT id, times, superseded, answers.id IS NOT NULL, win, tie "
                f"FROM requests LEFT JOIN answers USING (id) WHERE id IN ({', '.join('?' * len(keys))})",
                keys,
            ):
                answer = Answer(key, _nan(win), tie) if answered else None
                known[key] = (_Before(times, bool(superseded)), answer)
        return known

    def _superseded(self, number: int, ids: set[str]) -> list[Row]:
        """Return the rows of a round's other questions, marked."""
        found = self._query(
            "SELECT id, purpose, round, row, prompt, first, second, times FROM requests "
            "WHERE purpose = 'duel' AND round = ? AND superseded = 0",
            (number,),
        ).fetchall()
        return [(*row, 1) for row in found if row[0] not in ids]

    def _stands(self, number: int, row: int) -> bool:
        """Tell whether a question of a duel stands in a place."""
        found = self._query(
            "SELECT 1 FROM requests WHERE purpose = 'duel' AND round = ? AND row = ? AND superseded = 0", (number, row)
        ).fetchone()
        return found is not None

    def _duel(self, number: int, row: int) -> Row | None:
        found: Row | None = self._query(
            "SELECT round, row, first_arm, second_arm, prompt, first, second, asked, label, told FROM duels "
            "WHERE round = ? AND row = ?",
            (number, row),
        ).fetchone()
        return found

    def _text(self, text: str) -> int:
        """Return a text's number; a new text is written with the next commit."""
        number = self._recent_texts.get(text)
        if number is None:
            if len(self._recent_texts) >= _RECENT_TEXTS:
                self._recent_texts.clear()
            number = self._recent_texts[text] = self._find_text(text)
        return number

    def _find_text(self, text: str) -> int:
        stored: str | bytes = text
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # half a surrogate pair, which SQLite does not take as text
            stored = text.encode("utf-8", "surrogatepass")
        if stored in self._new_texts:
            return self._new_texts[stored]
        for number, found in self._query("SELECT number, text FROM texts WHERE digest = ?", (_digest(stored),)):
            if found == stored:
                return int(number)
        self._texts += 1
        self._new_texts[stored] = self._texts
        return self._texts


class _Before(NamedTuple):
    """What is down about a question."""

    times: int
    superseded: bool


def counts(query: Callable[..., Any]) -> Counts:
    """Return what a ledger holds.

    Args:
        query: `execute` of a connection to its tables.
    """
    found = query(
        "SELECT SUM(purpose = 'duel' AND NOT superseded), "
        "SUM(purpose = 'duel' AND NOT superseded AND answers.id IS NOT NULL), SUM(superseded), "
        "SUM(purpose = 'evaluation'), SUM(MAX(times - 1, 0)), SUM(times) FROM requests LEFT JOIN answers USING (id)"
    ).fetchone()
    return Counts(*(int(number or 0) for number in found))


def text_of(stored: str | bytes) -> str:
    """Return a text as it was, from how the table holds it."""
    return stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else stored


def _digest(text: str | bytes) -> int:
    return zlib.crc32(text if isinstance(text, bytes) else text.encode("utf-8"))


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
