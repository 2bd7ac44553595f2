"""Between requests and the oracle: a batch at a time, the record first, answers recorded before they are given."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from duelenv.experiments.serving.metrics import Metrics
from duelenv.experiments.serving.record import Conflict, Question, Record
from duelenv.oracles.base import Oracle, Unanswered, ask
from duelenv.oracles.remote.wire import Reply
from duelenv.oracles.sources import Answer, Request, Source, at_once_or_later, checked

__all__ = ["Desk"]

_LATER = "their answers come later: ask again"


class Desk:
    """Answers batches of duels. Its methods may be called from several threads; the oracle is asked by one at a time.

    Args:
        oracle: Who is asked; a source is asked once for each duel, and its answers are given to whoever asks again.
        record: What it has answered.
        metrics: Are told.

    Attributes:
        metrics: As given.
    """

    def __init__(self, oracle: Oracle | Source, record: Record, metrics: Metrics) -> None:
        self._at_once, self._later = at_once_or_later(oracle)
        self._record, self.metrics = record, metrics
        self._turn = threading.Lock()
        #: Of duels that a source owes an answer to.
        self._owed: dict[str, Question] = {}

    def recorded(self, questions: Sequence[Question]) -> dict[str, Answer]:
        """Find answers that need no oracle, by id.

        Raises:
            Conflict: An id stands for two questions.
        """
        seen: dict[str, str] = {}
        for question in questions:
            if seen.setdefault(question.id, question.texts) != question.texts:
                raise Conflict(question.id)
        return self._record.known(questions)

    def answer_known(self, known: dict[str, Answer], questions: int) -> Reply:
        """Count a reply that needs no oracle, and give it."""
        self.metrics.add("duelenv_duels_total", questions)
        self.metrics.add("duelenv_record_hits_total", questions)
        return Reply(known, "")

    def answer(self, questions: Sequence[Question]) -> Reply:
        """Answer a batch; waits for its turn, and for the oracle.

        Raises:
            Conflict: An id stands for two questions.
            Exception: Whatever the oracle raises.
        """
        with self._turn:
            # Who had the turn before may have asked the same.
            known = self.recorded(questions)
            if all(question.id in known for question in questions):
                return self.answer_known(known, len(questions))
            self.metrics.add("duelenv_duels_total", len(questions))
            self.metrics.add("duelenv_record_hits_total", sum(question.id in known for question in questions))
            unknown = list({question.id: question for question in questions if question.id not in known}.values())
            begun = time.perf_counter()
            try:
                fresh = self._asked(unknown) if self._later is None else self._collected(self._later, unknown)
            except Exception:
                self.metrics.add("duelenv_oracle_errors_total")
                raise
            finally:
                self.metrics.add("duelenv_oracle_seconds_total", time.perf_counter() - begun)
            return Reply(known | fresh.answers, fresh.message)

    def finish(self, seconds: float) -> bool:
        """Wait until the oracle's batch is recorded, and take no other; tell whether it was in time."""
        return self._turn.acquire(timeout=seconds)

    def _asked(self, questions: Sequence[Question]) -> Reply:
        assert self._at_once is not None
        self.metrics.add("duelenv_oracle_duels_total", len(questions))
        message = ""
        answered = np.ones(len(questions), np.bool_)
        try:
            preferences = ask(
                self._at_once,
                [question.duel.prompt for question in questions],
                [question.duel.first for question in questions],
                [question.duel.second for question in questions],
            )
        except Unanswered as error:
            self.metrics.add("duelenv_oracle_errors_total")
            message = str(error) or "the oracle does not say why"
            preferences, answered = error.preferences, error.answered
        win, tie = preferences.win.tolist(), preferences.tie.tolist()
        told = [place for place, known in enumerate(answered.tolist()) if known]
        answers = [Answer(questions[place].id, win[place], tie[place]) for place in told]
        self._record.put([questions[place] for place in told], answers)
        return Reply({answer.id: answer for answer in answers}, message)

    def _collected(self, source: Source, questions: Sequence[Question]) -> Reply:
        for question in questions:
            if self._owed.get(question.id, question).texts != question.texts:
                raise Conflict(question.id)
        new = [question for question in questions if question.id not in self._owed]
        self.metrics.add("duelenv_oracle_duels_total", len(new))
        # Put again when it was put before: a source takes a request once, and may have lost it in between.
        source.ask([Request(question.id, 0, 0, *question.duel[1:]) for question in questions])
        self._owed |= {question.id: question for question in new}
        come = [answer for answer in map(checked, source.collect()) if answer.id in self._owed]
        self._record.put([self._owed[answer.id] for answer in come], come)
        for answer in come:
            self._owed.pop(answer.id, None)
        asked = {question.id for question in questions}
        fresh = {answer.id: answer for answer in come if answer.id in asked}
        return Reply(fresh, "" if len(fresh) == len(asked) else _LATER)
