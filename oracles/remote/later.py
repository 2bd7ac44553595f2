"""The oracle `remote` where the server's own oracle answers later: a source that asks, and looks again."""

from __future__ import annotations

from collections.abc import Sequence

from duelenv.oracles.remote.client import Remote
from duelenv.oracles.remote.wire import Duel
from duelenv.oracles.sources import Answer, Request

__all__ = ["RemoteSource"]


class RemoteSource:
    """A source behind an address. Requests travel under their own ids, so that each is a question of its own.

    Args:
        remote: The connection.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
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

    def _put(self, duels: Sequence[Duel]) -> None:
        gathered = self._remote.gather(duels)
        self._open |= {duel.id: duel for duel in duels}
        for answer in gathered.answers.values():
            self._come[answer.id] = answer
            self._open.pop(answer.id, None)
        if gathered.fault:
            raise self._remote.fault(gathered.fault)
