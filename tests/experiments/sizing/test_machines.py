"""Cards and machines: what they reach, and their names."""

import pytest

from duelenv.experiments.sizing.machines import CARDS, Machine, card_named


def test_an_h200_reaches_what_was_measured():
    h200 = Machine(CARDS["h200"])
    assert h200.flops == pytest.approx(790e12) and h200.bandwidth == pytest.approx(4.3e12)


def test_every_card_is_known_in_any_case():
    assert [card_named(name.upper()) for name in CARDS] == list(CARDS.values())
