"""What the oracles of a run observed of themselves and what they spent: for its report, and for the terminal."""

from __future__ import annotations

from typing import Final, NamedTuple

from duelenv.experiments.folder.layout import RunFolder
from duelenv.oracles.services.figures import read_figures
from duelenv.oracles.services.spending import Purse

__all__ = ["OracleLine", "oracle_lines"]

#: What figures mean that any oracle may note; others stand under their own names.
_MEANINGS: Final = {
    "declined": "duels that it did not judge",
    "exact": "duels answered by the very pair",
    "similarity": "similarity of the recorded pairs that answered",
    "words": "verdicts that were one word, without probabilities",
    "turned": "duels whose verdict turned with the order of the responses",
    "shift": "added to the probability of being preferred by being shown first",
}
#: Those that are shares of duels; others are means.
_SHARES: Final = ("declined", "words", "turned", "exact")


class OracleLine(NamedTuple):
    """One figure.

    Attributes:
        oracle: Whose; "all oracles" for what is spent from the one purse.
        value: As text.
        meaning: Of what, and of how many duels.
    """

    oracle: str
    value: str
    meaning: str


def oracle_lines(folder: RunFolder) -> list[OracleLine]:
    """Read the figures of a run's oracles; none where none of them notes or spends anything.

    Args:
        folder: The run's.

    Raises:
        UserError: A file of theirs is damaged.
    """
    lines = []
    for oracle, name, value, size in read_figures(folder.home):
        text = f"{100.0 * value:.1f} %" if name in _SHARES else f"{value:+.3f}"
        lines.append(OracleLine(oracle, text, f"{_MEANINGS.get(name, name)}, of {size:,}"))
    if folder.purse.is_file():
        spent = Purse(record=folder.purse).spent
        if spent.tokens or spent.money:
            lines.append(
                OracleLine("all oracles", f"{spent.tokens:,}", "tokens, with what was under way when a run died")
            )
        if spent.money:
            lines.append(OracleLine("all oracles", f"{spent.money:,.4g}", "in the currency of their prices"))
    return lines
