"""A purse: what is under way counts, what came back is corrected, and what died stays spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from duelenv.oracles.services.spending import Cost, Limits, OutOfMoney, Purse


@pytest.fixture(params=["memory", "file"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "purse.sqlite"


def test_a_settled_request_costs_what_it_did(record: Path | None) -> None:
    purse = Purse(record=record)
    with purse.reserving(Cost(100, 1.0)) as reservation:
        assert purse.spent == Cost(100, 1.0)
        reservation.settle(Cost(60, 0.25))
    assert purse.spent == Cost(60, 0.25)


def test_what_is_under_way_counts_against_the_limit(record: Path | None) -> None:
    purse = Purse(Limits(tokens=150), record)
    with purse.reserving(Cost(100)), pytest.raises(OutOfMoney, match=r"200 in tokens.*at most 150.*budget\.tokens"):
        with purse.reserving(Cost(100)):
            pass
    assert purse.spent == Cost(100)


def test_a_limit_can_be_spent_to_the_last_coin(record: Path | None) -> None:
    purse = Purse(Limits(money=0.3), record)
    for _ in range(3):
        with purse.reserving(Cost(money=0.1)):
            pass
    with pytest.raises(OutOfMoney, match="money"), purse.reserving(Cost(money=0.001)):
        pass


def test_what_was_never_settled_stays_spent(record: Path | None) -> None:
    purse = Purse(record=record)
    with pytest.raises(RuntimeError), purse.reserving(Cost(7, 0.5)):
        raise RuntimeError
    assert purse.spent == Cost(7, 0.5)


def test_two_purses_of_one_file_are_one(tmp_path: Path) -> None:
    path = tmp_path / "purse.sqlite"
    one, other = Purse(Limits(tokens=10), path), Purse(Limits(tokens=10), path)
    with one.reserving(Cost(6)):
        pass
    with pytest.raises(OutOfMoney), other.reserving(Cost(6)):
        pass
    assert other.spent == Cost(6)
