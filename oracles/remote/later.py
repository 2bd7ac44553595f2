"""The oracle `remote` where the server's own oracle answers later: a source that asks, and looks again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from duelenv.oracles.remote.client import Remote
from duelenv.oracles.remote.wire import Duel
from duelenv.oracles.sources import Answer, Request

__all__ = ["RemoteSource"]

#: Seconds between two looks while it waits.
_LOOK_SECONDS: Final = 1.0


class RemoteSource:
    """A source behind an address. Requests travel under their own ids, so that each is a question of its own.

    Args:
        remote: The connection; its patience says how long a last round waits for the next answer.
        pause: Sleeps for some seconds.
    """

    def __init__(self, remote: Remote, pause: Callable[[float], None] = time.sleep) -> None:
        self._remote, self._pause = remote, pause
        self._open: dict[str, Duel] = {}
        self._come: dict[str, Answer] = {}

    def ask(self, requests: Sequence[Request], /) -> None:
        """Put requests to the server.

        Raises:
            UserError: It could not be reached with all of them, or refuses; asking again is the same question.
        """
        self._put([Duel(request.id, request.prompt, request.first, request.second) for request in requests])

    def collect(self) -> list[Answer]:
        """Look whether open requests have been answered, and return those answers.

        Raises:
            UserError: As for `ask`; what has come is returned the next time.
        """
        self._put(list(self._open.values()))
        come, self._come = list(self._come.values()), {}
        return come

    def collect_last(self) -> list[Answer]:
        """Collect in a last round, after which nobody learns from an answer: wait until no request is open.

        Raises:
            UserError: As for `ask`, or no answer has come for as long as patience lasts. Those that came are kept.
        """
        self._put(list(self._open.values()))
        seconds = self._remote.patience.seconds
        since, left = time.monotonic(), len(self._open)
        while self._open:
            if time.monotonic() - since >= seconds:
                raise self._remote.fault(
                    f"{left} answers are still to come, none came for {seconds:g} seconds, 'patience.seconds'"
                )
            self._pause(_LOOK_SECONDS)
            self._put(list(self._open.values()))
            if len(self._open) < left:
                since, left = time.monotonic(), len(self._open)
        come, self._come = list(self._come.values()), {}
        return come

    def _put(self, duels: Sequence[Duel]) -> None:
        gathered = self._remote.gather(duels)
        self._open |= {duel.id: duel for duel in duels}
        for answer in gathered.answers.values():
            self._come[answer.id] = answer
            self._open.pop(answer.id, None)
        if gathered.fault:
            raise self._remote.fault(gathered.fault)
