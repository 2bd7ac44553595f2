"""`People`, the source of a run whose labels come from people: it plays on with what has come, or waits for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.people.desk import Desk, Overlap
from duelenv.oracles.services.home import Home
from duelenv.oracles.sources import Answer, Request

FILE: Final = "people.sqlite"
"""Name of the desk in the folder that a run keeps for its oracles."""

#: Seconds between two looks at the desk.
_LOOK_SECONDS: Final = 0.25
#: Seconds between two notes that people are waited for.
_NOTE_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class NobodyAnswers(UserError):
    """More questions are open than may be, and no answer has come for as long as patience lasts."""


class People:
    """A source whose answers people give on the page of `duelenv label`, while the run goes on or stands still.

    A round's questions are put down on the desk, and the run plays on with the answers that have come. Where more than
    `open` are unanswered, `collect` waits until they are no more than that; after `patience` seconds without an answer
    it raises, and the run stops. In its last round it waits for all. Everything asked and answered is on the desk, so
    that the same command goes on.

    Args:
        home: What a run gives; its folder holds the desk, which all cells share.
        desk: The desk's file, in place of the run's own.
        open: Questions that may be unanswered while the run plays on; 0 to wait for every round's.
        patience: Seconds to wait for the next answer; 0 to stop at once.
        overlap: Share of the questions that several people answer, in [0, 1].
        raters: How many people answer one of these; the label's probability is their mean.

    Raises:
        UserError: A setting out of its range.
    """

    def __init__(
        self,
        *,
        home: Home | None = None,
        desk: str | Path | None = None,
        open: int = 16,
        patience: float = 600.0,
        overlap: float = 0.0,
        raters: int = 2,
    ) -> None:
        self.open = checks.integer("open", open, low=0)
        self.patience = checks.number("patience", patience, low=0.0)
        self.overlap = Overlap(overlap, raters)
        home = home or Home()
        self._path = Path(desk) if desk is not None else home.folder and home.folder / FILE
        self._pause = home.pause
        self._waiting: dict[str, int] = {}  # the round of each question that was asked and not collected
        self._noted = -float("inf")

    def ask(self, requests: Sequence[Request], /) -> None:
        """Put questions down on the desk; see `duelenv.oracles.Source`.

        Raises:
            UserError: There is no place for a desk, or the file cannot be written.
        """
        if not requests:
            return
        desk = self._desk()
        now = max(request.round for request in requests)
        keys = {request.id for request in requests}
        # Of this round or a later one, but not among them: another pair was played after a fault, or another world.
        stale = [key for key, number in self._waiting.items() if number >= now and key not in keys]
        desk.put(request for request in requests if request.id not in self._waiting)
        self._waiting |= {request.id: request.round for request in requests}
        desk.withdraw(stale)
        for key in stale:
            del self._waiting[key]

    def collect(self) -> list[Answer]:
        """Return the answers that have come since the last time, once few enough questions are open.

        Raises:
            NobodyAnswers: No answer has come for as long as patience lasts. Those that came before are kept.
        """
        return self._collected(self.open)

    def collect_last(self) -> list[Answer]:
        """Collect in a last round, after which nobody learns from an answer: wait until no question is open."""
        return self._collected(0)

    def _collected(self, most: int) -> list[Answer]:
        if not self._waiting:
            return []
        desk = self._desk()
        answers = desk.settle(list(self._waiting))
        since = time.monotonic()
        while len(self._waiting) - len(answers) > most:
            left = len(self._waiting) - len(answers)
            if time.monotonic() - since >= self.patience:
                raise NobodyAnswers(self._words(left, most))
            self._note(left)
            self._pause(_LOOK_SECONDS)
            before, answers = len(answers), desk.settle(list(self._waiting))
            if len(answers) > before:
                since = time.monotonic()
        for answer in answers:
            del self._waiting[answer.id]
        return answers

    def _desk(self) -> Desk:
        if self._path is None:
            raise UserError("the oracle 'people' has no desk outside of a run; give it a file as desk=FILE.sqlite")
        return Desk(self._path, self.overlap)

    def _note(self, left: int) -> None:
        now = time.monotonic()
        if now - self._noted >= _NOTE_SECONDS:
            self._noted = now
            _log.warning(
                "%d questions wait for people at %s; 'duelenv label' with the run's folder answers them",
                left,
                self._path,
            )

    def _words(self, left: int, most: int) -> str:
        where = "('oracle.open')" if most == self.open else "in the last round"
        return (
            f"{left} questions wait for people on the desk {str(self._path)!r}, expected at most {most} {where}, and "
            f"nobody answered for {self.patience:g} seconds ('oracle.patience'); answer them with 'duelenv label' and "
            "the run's folder, and the same command goes on"
        )
