"""Requests to a source that answers later, from asking to answer; no labels and no rounds shown here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from duelenv.ground.errors import UserError
from duelenv.oracles.sources import Answer, Request, Source, checked


class Asked(NamedTuple):
    """A request, and what its coin needs to know.

    Attributes:
        request: The request.
        swapped: Whether the first response is the candidate with the higher index.
    """

    request: Request
    swapped: bool


class Questions:
    """What was asked of a source and not answered yet.

    A fault of the source (an exception) passes through and changes nothing: what was asked stays open, and what was
    answered before the fault is kept for the next `take`.

    Args:
        source: Who answers.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: dict[str, Asked] = {}
        self._answers: dict[str, Answer] = {}  # of open requests, not taken yet
        self._unsaid: list[Asked] = []  # open, but the source may not have heard of them: we were restarted

    def owed(self) -> list[tuple[int, int]]:
        """Return (round, row) of every request that is open."""
        return [(asked.request.round, asked.request.row) for asked in self._open.values()]

    def restart(self) -> None:
        """Forget all requests: there was a seeded reset, and their world is gone."""
        self._open, self._answers, self._unsaid = {}, {}, []

    def ask(self, number: int, questions: Sequence[Asked]) -> None:
        """Put a round's requests to the source.

        Those of an earlier try of the same round that are not among them are superseded: another pair was played after
        a fault, and what is answered to the old question belongs to no label.

        Raises:
            Exception: Whatever the source raises; then none of them is open.
        """
        self._source.ask([asked.request for asked in (*self._unsaid, *questions)])
        self._unsaid = []
        earlier = {key: asked for key, asked in self._open.items() if asked.request.round != number}
        self._open = earlier | {asked.request.id: asked for asked in questions}

    def take(self) -> list[tuple[Asked, Answer]]:
        """Return open requests that have been answered, and close them; by round and row.

        Answers to anything else are passed over: a source may serve several, and may repeat itself.

        Raises:
            UserError: An answer is not one; the others are kept for the next time.
            Exception: Whatever the source raises.
        """
        wrong: UserError | None = None
        for given in self._source.collect():
            try:
                answer = checked(given)
            except UserError as error:
                wrong = wrong or error
                continue
            if answer.id in self._open:
                self._answers.setdefault(answer.id, answer)  # the first word counts
        if wrong is not None:
            raise wrong
        taken = [(self._open.pop(key), answer) for key, answer in self._answers.items() if key in self._open]
        self._answers = {}
        return sorted(taken, key=lambda pair: (pair[0].request.round, pair[0].request.row))

    def state_dict(self) -> dict[str, Any]:
        """Return the open requests, and answers to them that nobody took yet."""
        return {
            "open": [asdict(asked.request) | {"swapped": asked.swapped} for asked in self._open.values()],
            "answers": [asdict(answer) for answer in self._answers.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; with the next `ask` the source hears of the open requests again."""
        asked = [
            Asked(Request(**{key: value for key, value in saved.items() if key != "swapped"}), saved["swapped"])
            for saved in state["open"]
        ]
        self._open = {one.request.id: one for one in asked}
        self._answers = {saved["id"]: Answer(**saved) for saved in state["answers"]}
        self._unsaid = asked


def request_id(root: int, number: int, row: int, prompt: str, first: str, second: str) -> str:
    """Return the name of a question: where it was asked, and what; other texts in the same place are another one."""
    texts = hashlib.sha256("\0".join((prompt, first, second)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{root:x}-{number}-{row}-{texts[:16]}"
