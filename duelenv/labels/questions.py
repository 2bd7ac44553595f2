"""Requests to a source that answers later, from asking to answer; no labels and no rounds shown here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from duelenv.ground.errors import UserError
from duelenv.labels.ledger import Ledger
from duelenv.oracles.sources import Answer, Request, Source, checked, collected


class Asked(NamedTuple):
    """A request, and what decides its label once there is an answer; drawn with the round.

    Attributes:
        request: The request.
        swapped: Whether the first response is the candidate with the higher index.
        coin: Of its round and row.
        uniforms: The stages' numbers, [S].
    """

    request: Request
    swapped: bool
    coin: float
    uniforms: list[float]


class Questions:
    """What was asked of a source and not answered yet.

    A fault of the source (an exception) passes through and changes nothing: what was asked stays open, and what was
    answered before the fault is kept for the next `take`.

    Args:
        source: Who answers.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.restart()

    def restart(self) -> None:
        """Forget all requests: there was a seeded reset, and their world is gone."""
        self._open: dict[int, dict[str, Asked]] = {}  # by round and id
        self._round_of: dict[str, int] = {}
        self._answers: dict[str, Answer] = {}  # of open requests, not closed yet
        self._unsaid: list[Asked] = []  # open, but the source may not have heard of them: we were restarted
        self._unwritten: set[str] = set()  # answers that the ledger does not have yet

    def owed(self) -> list[tuple[int, int]]:
        """Return (round, row) of every request that is open."""
        return [(number, row) for number in self._open for row in self.owed_of(number)]

    def owed_of(self, number: int) -> list[int]:
        """Return the rows of a round whose requests are open."""
        return [asked.request.row for asked in self._open.get(number, {}).values()]

    def ask(self, number: int, questions: Sequence[Asked], ledger: Ledger | None) -> None:
        """Put a round's requests to the source, but for those that a ledger has answers to.

        Those of an earlier try of the same round that are not among them are superseded: another pair was played after
        a fault, and what is answered to the old question belongs to no label.

        Raises:
            Exception: Whatever the source raises; then none of them is open.
        """
        requests = [asked.request for asked in (*self._unsaid, *questions)]
        if ledger is not None:
            ledger.put(number, [asked.request for asked in questions])
            known = ledger.answers_to(requests)
            requests = [request for request in requests if request.id not in known]
        self._source.ask(requests)
        self._unsaid = []
        for key in self._open.pop(number, {}):
            del self._round_of[key]
        if questions:
            self._open[number] = {asked.request.id: asked for asked in questions}
            self._round_of |= dict.fromkeys(self._open[number], number)
        self._answers = {key: answer for key, answer in self._answers.items() if key in self._round_of}

    def answered(self, number: int, ledger: Ledger | None, *, last: bool = False) -> list[tuple[Asked, Answer]]:
        """Return the open requests that have an answer, by round and row; `close` them once their labels are told.

        In a round that was played before, those that came then are the ones in the ledger. Answers to anything else
        are passed over: a source may serve several, and may repeat itself.

        Args:
            number: The round.
            ledger: Where answers are kept.
            last: Whether no round of the episode follows, so that a source that can wait gives all that it owes.

        Raises:
            UserError: An answer is not one; the others are kept for the next time.
            Exception: Whatever the source raises.
        """
        if ledger is not None:
            self._take(ledger.came_in(number))
        if ledger is None or not ledger.is_closed(number):
            self._collect(number, ledger, last)
        found = [(self._open[self._round_of[key]][key], answer) for key, answer in self._answers.items()]
        return sorted(found, key=lambda pair: (pair[0].request.round, pair[0].request.row))

    def _collect(self, number: int, ledger: Ledger | None, last: bool) -> None:
        """Take what the source has, and write it down before anybody acts on it."""
        wrong: UserError | None = None
        came = collected(self._source, last=last)
        if not isinstance(came, Iterable):
            raise UserError(
                f"collect of the source returned {str(came)[:60]!r}, expected the answers that are there; return "
                "a list, empty where there is none"
            )
        for given in came:
            try:
                self._unwritten |= self._take([checked(given)])
            except UserError as error:
                wrong = wrong or error
        if ledger is not None:
            ledger.answer(number, [self._answers[key] for key in sorted(self._unwritten)], close=wrong is None)
        self._unwritten = set()
        if wrong is not None:
            raise wrong

    def _take(self, answers: Iterable[Answer]) -> set[str]:
        """Keep answers to open requests, the first word of each; return the ids of those that are new."""
        new = {one.id: one for one in answers if one.id in self._round_of and one.id not in self._answers}
        self._answers |= new
        return set(new)

    def close(self, asked: Iterable[Asked]) -> None:
        """Close requests whose labels were told, or declined."""
        for one in asked:
            number = self._round_of.pop(one.request.id)
            del self._answers[one.request.id]
            del self._open[number][one.request.id]
            if not self._open[number]:
                del self._open[number]

    def state_dict(self) -> dict[str, Any]:
        """Return the open requests, and answers to them that were not told yet."""
        return {
            "open": [
                {"request": asdict(asked.request)} | {name: getattr(asked, name) for name in Asked._fields[1:]}
                for of_round in self._open.values()
                for asked in of_round.values()
            ],
            "answers": [asdict(answer) for answer in self._answers.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; with the next `ask` the source hears of the open requests again."""
        self.restart()
        for saved in state["open"]:
            asked = Asked(**(saved | {"request": Request(**saved["request"])}))
            self._open.setdefault(asked.request.round, {})[asked.request.id] = asked
            self._round_of[asked.request.id] = asked.request.round
            self._unsaid.append(asked)
        self._answers = {saved["id"]: Answer(**saved) for saved in state["answers"]}


def request_id(root: int, number: int, row: int, prompt: str, first: str, second: str) -> str:
    """Return the name of a question: where it was asked, and what; other texts in the same place are another one."""
    return f"{root:x}-{number}-{row}-{_digest(prompt, first, second)[:16]}"


def comparison_id(prompt: str, first: str, second: str) -> str:
    """Return the name of a comparison that belongs to no round: what is compared."""
    return f"evaluation-{_digest(prompt, first, second)}"


def _digest(*texts: str) -> str:
    return hashlib.sha256(repr(texts).encode("utf-8", "surrogatepass")).hexdigest()
