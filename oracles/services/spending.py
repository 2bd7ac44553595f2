"""What answers cost in tokens and money, and the purse that they are paid from: reserved before spent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.looking import look_into
from duelenv.oracles.services.database import Database


class Cost(NamedTuple):
    """Of one or more answers.

    Attributes:
        tokens: Read and written.
        money: In the currency of the prices.
    """

    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.tokens + other.tokens, self.money + other.money)


class OutOfMoney(UserError):
    """The purse holds less than the next answer may cost."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be spent; None for as much as it takes."""

    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            checks.integer("tokens", self.tokens, low=1)
        if self.money is not None:
            checks.number("money", self.money, above=0.0)


class Reservation:
    """The most that a request may cost, set aside until it is known what it did cost."""

    def __init__(self, most: Cost) -> None:
        self.most = most
        self.spent: Cost | None = None

    def settle(self, spent: Cost) -> None:
        """Say what it did cost; without it, the whole reservation stays spent."""
        self.spent = spent


class Purse:
    """What may be spent, by all who share it: threads, and through a file processes and later starts of a run.

    A request's largest cost is set aside before it is sent and corrected when it has come back. What was set aside when
    a process died stays spent, since the service may have answered.

    Args:
        limits: What may be spent.
        record: SQLite file; None to remember in memory only.

    Example:
        >>> purse = Purse(Limits(money=1.0))
        >>> with purse.reserving(Cost(tokens=1000, money=0.6)) as reservation:
        ...     reservation.settle(Cost(tokens=800, money=0.5))
        >>> purse.spent
        Cost(tokens=800, money=0.5)
    """

    def __init__(self, limits: Limits | None = None, record: Path | None = None) -> None:
        self.limits = limits or Limits()
        self._database = Database(record, _SCHEMA)

    @property
    def spent(self) -> Cost:
        """All that was spent, and what is set aside."""
        with self._database.transaction() as connection:
            return _total(connection)

    @contextmanager
    def reserving(self, most: Cost) -> Iterator[Reservation]:
        """Set aside what a request may cost, while it is under way.

        Where the block raises before `settle`, the reservation stays spent: whether the service counts it is not known.
        `settle(Cost())` says that it was never sent.

        Raises:
            OutOfMoney: More would be spent than may be; nothing is set aside then.
        """
        self._set_aside(most)
        reservation = Reservation(most)
        try:
            yield reservation
        finally:
            if reservation.spent is not None:
                with self._database.transaction() as connection:
                    _add(connection, reservation.spent, most)

    def _set_aside(self, most: Cost) -> None:
        with self._database.transaction() as connection:
            after = _total(connection) + most
            for name, limit in (("tokens", self.limits.tokens), ("money", self.limits.money)):
                value = getattr(after, name)
                if limit is not None and value > limit * (1.0 + _ROUNDING):
                    raise OutOfMoney(
                        f"the next answer may bring what is spent to {value:,.6g} in {name}, expected at most "
                        f"{limit:,.6g}; the same command with a larger 'budget.{name}' goes on"
                    )
            _add(connection, most)


def spent_so_far(record: Path) -> Cost | None:
    """Read what a purse on the disk has spent, for those who watch, without making or locking it; None without one."""
    if not record.is_file():
        return None
    return look_into(record, _total)


def most_of(oracle: object, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Cost | None:
    """Find the most that an oracle's answers to duels may cost, without asking it; None of one that cannot say.

    Args:
        oracle: One with a method `most(prompts, first, second) -> Cost`, in any number of wrappers.
        prompts: Of the duels.
        first: Responses shown first.
        second: Responses shown second.
    """
    while not hasattr(oracle, "most") and hasattr(oracle, "inner"):
        oracle = oracle.inner
    return oracle.most(prompts, first, second) if hasattr(oracle, "most") else None


#: Sums of prices are no decimals.
_ROUNDING: Final = 1e-9


#: One row: totals, so that a purse is as quick after a million requests as before the first.
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS costs (one INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, money REAL NOT NULL); "
    "INSERT OR IGNORE INTO costs VALUES (1, 0, 0.0)"
)


def _add(connection: sqlite3.Connection, spent: Cost, in_place_of: Cost | None = None) -> None:
    before = in_place_of or Cost()
    connection.execute(
        "UPDATE costs SET tokens = tokens + ?, money = money + ?",
        (spent.tokens - before.tokens, spent.money - before.money),
    )


def _total(connection: sqlite3.Connection) -> Cost:
    tokens, money = connection.execute("SELECT tokens, money FROM costs").fetchone()
    return Cost(int(tokens), max(float(money), 0.0))
