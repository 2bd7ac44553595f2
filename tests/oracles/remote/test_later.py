"""A source behind an address: it plays on with what has come, and in a last round waits for the rest."""

from __future__ import annotations

import pytest
from rude_server import rude_server

from duelenv.ground.errors import UserError
from duelenv.oracles import make
from duelenv.oracles.pricing import priced
from duelenv.oracles.services.home import Home
from duelenv.oracles.sources import Request, collected

REQUESTS = [Request(f"id {row}", 0, row, "p", f"a{row}", "b") for row in range(3)]


def after(looks: int):
    """A server that answers the request 0 at once, and the others once it was asked so often."""
    asked: list[object] = []

    def answer(seen):
        asked.append(seen)
        ids = [one["id"] for one in seen.body["duels"]]
        known = [one for one in ids if one == "id 0" or len(asked) > looks]
        return {
            "answers": [{"id": one, "win": 0.75, "tie": 0.0} for one in known],
            "unanswered": [one for one in ids if one not in known],
            "message": "later",
        }

    return answer


def source(url: str, pauses: list[float], **patience):
    return make("remote", url=url, later=True, patience=patience, home=Home(pause=pauses.append))


@pytest.mark.parametrize("price", [None, 0.5])
def test_a_last_round_waits_for_all_that_is_open(price) -> None:
    pauses: list[float] = []
    with rude_server(after(4)) as server:
        later = source(server.url, pauses)
        if price is not None:
            later = priced(later, price, None)
        later.ask(REQUESTS)
        assert [answer.id for answer in collected(later, last=False)] == ["id 0"] and not pauses
        assert {answer.id for answer in collected(later, last=True)} == {"id 1", "id 2"}
    # Asked, looked at, looked at again as the last round begins, and after two pauses.
    assert len(server.seen) == 5 and len(pauses) == 2


def test_a_last_round_ends_with_patience_and_keeps_what_came() -> None:
    with rude_server(after(1000)) as server:
        later = source(server.url, [], seconds=0.05)
        later.ask(REQUESTS)
        with pytest.raises(UserError, match=r"2 answers are still to come, none came for 0\.05 seconds"):
            later.collect_last()
        assert [answer.id for answer in later.collect()] == ["id 0"]
