"""Prices: set aside before the question, corrected after it, and once for each request that is open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from duelenv.oracles import Preferences, Request, Unanswered, UserError, make, register, utility_of
from duelenv.oracles.base import ORACLES
from duelenv.oracles.pricing import PaidOnce, Priced, PricedSource, price_of
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, Limits, OutOfMoney, Purse


def request(name: str) -> Request:
    return Request(name, 0, 0, "p", "a", "b")


class Desk:
    """A source that only listens."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def ask(self, requests: list[Request], /) -> None:
        self.heard += [one.id for one in requests]

    def collect(self) -> list[object]:
        return []


def test_each_answer_is_paid_from_the_purse_of_the_run() -> None:
    purse = Purse(Limits(money=1.0))
    oracle = make("good_words", price=0.25, noise=0.1, home=Home(purse=purse))
    oracle(["p"] * 3, ["kind"] * 3, ["rude"] * 3)
    assert purse.spent == Cost(0, 0.75)
    with pytest.raises(OutOfMoney, match=r"budget\.money"):
        oracle(["p"] * 2, ["kind"] * 2, ["rude"] * 2)
    assert purse.spent == Cost(0, 0.75)
    oracle(["p"], ["kind"], ["rude"])
    assert utility_of(oracle) is not None and price_of(oracle) == 0.25


def test_it_is_set_aside_while_the_oracle_thinks() -> None:
    purse = Purse()
    seen = []

    def thinking(prompts, first, second):
        seen.append(purse.spent.money)
        return np.full(len(prompts), 0.5)

    Priced(thinking, 0.5, purse)(["p"] * 2, ["a"] * 2, ["b"] * 2)
    assert seen == [1.0] and purse.spent.money == 1.0


def test_what_was_not_answered_is_not_paid_and_what_broke_is() -> None:
    purse = Purse()

    def halting(prompts, first, second):
        raise Unanswered("down", Preferences(np.zeros(3), np.zeros(3)), np.array([True, False, True]))

    with pytest.raises(Unanswered):
        Priced(halting, 0.1, purse)(["p"] * 3, ["a"] * 3, ["b"] * 3)
    assert_allclose(purse.spent.money, 0.2)
    with pytest.raises(ZeroDivisionError):
        Priced(lambda *_: 1 / 0, 0.1, purse)(["p"] * 3, ["a"] * 3, ["b"] * 3)
    assert_allclose(purse.spent.money, 0.5)  # it may have been counted there


def test_the_price_of_whoever_could_not_be_asked_comes_back() -> None:
    purse = Purse(Limits(money=1.0))
    inside = make("crowd", utilities={"u": {"name": "good_words"}}, annotators=[{"price": 2.0}], home=Home(purse=purse))
    with pytest.raises(OutOfMoney):
        Priced(inside, 0.1, purse)(["p"], ["a"], ["b"])
    assert purse.spent.money == 0.0
    assert_allclose(price_of(Priced(inside, 0.1, purse)), 2.1)


@pytest.mark.parametrize("kept", [True, False])
def test_an_open_request_is_spent_and_paid_once(tmp_path: Path, kept: bool) -> None:
    purse = Purse(Limits(money=0.5))
    record = tmp_path / "home" / "paid.sqlite" if kept else None
    desk = Desk()
    source = PricedSource(desk, 0.2, purse, PaidOnce(record))
    source.ask([request("one")])
    source.ask([request("one"), request("two")])
    assert_allclose(purse.spent.money, 0.4)
    with pytest.raises(OutOfMoney):
        source.ask([request("three")])
    assert desk.heard == ["one", "one", "two"]
    purse.limits = Limits(money=0.6)
    source.ask([request("three")])  # it was not paid then
    assert_allclose(purse.spent.money, 0.6)
    if kept:  # after a restart, and from another process
        PricedSource(desk, 0.2, purse, PaidOnce(record)).ask([request("one"), request("three")])
        assert_allclose(purse.spent.money, 0.6)


def test_a_price_makes_a_source_out_of_a_source_and_other_prices_are_left_alone(tmp_path: Path) -> None:
    register("pricing_desk", Desk)
    register("pricing_own", lambda price: lambda prompts, first, second: np.full(len(prompts), float(price["each"])))
    try:
        source = make("pricing_desk", price=0.3, home=Home(tmp_path))
        assert isinstance(source, PricedSource) and price_of(source) == 0.3
        source.ask([request("one")])
        assert (tmp_path / "paid.sqlite").is_file()
        assert make("pricing_own", price={"each": 0.25})(["p"], ["a"], ["b"])[0] == 0.25
    finally:
        for name in ("pricing_desk", "pricing_own"):
            del ORACLES._parts[name]


def test_a_wrong_price_is_refused() -> None:
    with pytest.raises(UserError, match="price is -1"):
        make("good_words", price=-1)
