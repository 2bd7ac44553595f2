"""In which order a judge is shown two responses, what verdicts in both orders say together, and position bias."""

from __future__ import annotations

from typing import Final, NamedTuple

from duelenv.oracles.judge.digests import digest_of
from duelenv.oracles.judge.verdicts import Verdict

#: Both orders; one drawn by a hash of the texts; or always the one in which the duel is.
ORDERS: Final = ("both", "random", "fixed")


class Shown(NamedTuple):
    """Two responses in the order in which they are shown.

    Attributes:
        prompt: The prompt.
        first: As A.
        second: As B.
    """

    prompt: str
    first: str
    second: str

    @property
    def turned(self) -> Shown:
        """The other order."""
        return Shown(self.prompt, self.second, self.first)


def drawn(duel: Shown) -> float:
    """Draw a number in [0, 1) that depends on the prompt and the two responses, and not on their order."""
    digest = digest_of((duel.prompt, *sorted((duel.first, duel.second))), size=8)
    return (int.from_bytes(digest) >> 11) / 2.0**53  # as many bits as a float in [0, 1) can hold


def order_of(order: str, duel: Shown) -> Shown:
    """Choose how a duel is shown where it is shown once."""
    if order != "random":
        return duel
    low_first = duel if duel.first <= duel.second else duel.turned
    return low_first if drawn(duel) < 0.5 else low_first.turned


def turned(verdict: Verdict) -> Verdict:
    """Turn a verdict to what it says of the other order's first."""
    return Verdict(max(1.0 - verdict.win - verdict.tie, 0.0), verdict.tie, verdict.said)


def together(one: Verdict, other: Verdict) -> Verdict:
    """Join two verdicts on one duel, each about the response that is first in the duel.

    Probabilities are averaged. Two words that contradict each other are no probability: they are a declared tie.
    """
    if one.said and other.said and (one.expected - 0.5) * (other.expected - 0.5) < 0.0:
        balance = 0.5 * (one.expected + other.expected)
        if balance == 0.5:
            return Verdict(0.0, 1.0, said=True)
    return Verdict(0.5 * (one.win + other.win), 0.5 * (one.tie + other.tie), one.said and other.said)


class Position(NamedTuple):
    """What the order did to one duel.

    Attributes:
        turned: Whether the two verdicts prefer different responses: 1 or 0.
        shift: How much likelier a response is preferred for being shown first, in probability.
    """

    turned: float
    shift: float


def position(one: Verdict, other: Verdict) -> Position:
    """Measure position bias by two verdicts on one response, which was shown first for `one`, second for `other`."""
    opposite = (one.expected - 0.5) * (other.expected - 0.5) < 0.0
    return Position(float(opposite), 0.5 * (one.expected - other.expected))
