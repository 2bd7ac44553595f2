"""A price for any oracle: paid from the purse of the run before it is asked. Not for prices by the token.

An oracle that answers later is paid when it is asked: what is open counts as spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

from duelenv.ground import checks
from duelenv.oracles.base import Oracle, Preferences, Unanswered, ask
from duelenv.oracles.services.database import Database
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, OutOfMoney, Purse
from duelenv.oracles.sources import Answer, Request, Source, at_once_or_later, collected

#: In the folder of a run's oracles.
_PAID: Final = "paid.sqlite"


@dataclass(frozen=True)
class Priced:
    """An oracle that answers at once, and costs something each time.

    Attributes:
        inner: Who is asked.
        price: Money for each answer, a NaN among them: whoever declines has read the question.
        purse: What it is paid from.
    """

    inner: Oracle
    price: float
    purse: Purse

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Ask the inner oracle for its answers to N duels.

        Raises:
            OutOfMoney: N answers would cost more than there is; nobody is asked then.
            Unanswered: As of the inner oracle; what was answered is paid.
        """
        most = Cost(money=self.price * len(prompts))
        with self.purse.reserving(most) as reservation:
            try:
                answers = ask(self.inner, prompts, first, second)
            except Unanswered as error:
                reservation.settle(Cost(money=self.price * int(error.answered.sum())))
                raise
            except OutOfMoney:  # of whoever is inside, and could not be asked
                reservation.settle(Cost())
                raise
        return answers  # all of them at their price, as was set aside: there is nothing to settle


@dataclass(frozen=True)
class PricedSource:
    """An oracle that answers later, and is paid when it is asked.

    Attributes:
        inner: Who is asked.
        price: Money for each request; the same id is paid once, whoever asks again and after whatever restart.
        purse: What it is paid from.
        paid: The ids that were paid.
    """

    inner: Source
    price: float
    purse: Purse
    paid: PaidOnce

    def ask(self, requests: Sequence[Request], /) -> None:
        """Pay for requests that are new, and pass all of them on.

        Raises:
            OutOfMoney: They would cost more than there is; nobody is asked then.
        """
        with self.paid.adding([request.id for request in requests]) as new:
            if new:
                with self.purse.reserving(Cost(money=self.price * new)):
                    pass  # without settling, all of it stays spent
        self.inner.ask(requests)

    def collect(self) -> Iterable[Answer]:
        """Collect the answers that are there."""
        return self.inner.collect()

    def collect_last(self) -> Iterable[Answer]:
        """Collect in a last round all that the inner source owes, where it can wait for that."""
        return collected(self.inner, last=True)


class PaidOnce:
    """Names of what was paid, for all processes of a run.

    Args:
        record: SQLite file; None to remember in memory.
    """

    def __init__(self, record: Path | None = None) -> None:
        self._database = Database(record, "CREATE TABLE IF NOT EXISTS paid (name TEXT PRIMARY KEY) WITHOUT ROWID")

    @contextmanager
    def adding(self, names: Sequence[str]) -> Iterator[int]:
        """Count how many of some names are new; they are added if the block succeeds.

        A process that dies after the block has paid, and before they are added, pays again: rather that than never.
        """
        with self._database.transaction() as connection:
            before = connection.total_changes
            connection.executemany("INSERT OR IGNORE INTO paid VALUES (?)", [(name,) for name in names])
            yield connection.total_changes - before


def priced(oracle: Oracle | Source, price: object, home: Home | None) -> Oracle | Source:
    """Price an oracle that costs something, whether it answers at once or later.

    Args:
        oracle: Who is asked.
        price: Money for each answer.
        home: What the run gives; None to count in memory, without a limit.

    Raises:
        UserError: The price is refused.
    """
    money = checks.number("price", price, low=0.0)
    place = home or Home()
    at_once, later = at_once_or_later(oracle)
    if later is not None:
        return PricedSource(later, money, place.purse, PaidOnce(None if place.folder is None else place.folder / _PAID))
    assert at_once is not None
    return Priced(at_once, money, place.purse)


def price_of(oracle: object) -> float:
    """Find the most that an answer costs, as far as the oracle and what it wraps say so; 0 where they say nothing."""
    total = 0.0
    inner: Any = oracle
    while inner is not None:
        price = getattr(inner, "price", 0.0)
        total += float(price) if isinstance(price, Real) else 0.0
        inner = getattr(inner, "inner", None)
    return total
