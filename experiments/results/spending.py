"""What the oracles of a run have spent in tokens and money, for people and for the report. Spends nothing itself."""

from __future__ import annotations

from typing import NamedTuple

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.oracles.services.spending import Cost, Purse

__all__ = ["Spending", "spending_of"]


class Spending(NamedTuple):
    """Of a run, all cells together, finished or not.

    Attributes:
        spent: With what is under way, and with what was under way when a process died.
        tokens: How many may be spent; None for as many as it takes.
        money: Likewise.
    """

    spent: Cost
    tokens: int | None
    money: float | None

    def lines(self) -> list[tuple[str, str]]:
        """Write what was spent by its kind, as text; nothing of a kind that costs nothing."""
        shown = []
        if self.spent.money or self.money is not None:
            limit = "" if self.money is None else f" of {self.money:,.6g}"
            shown.append(("money", f"{self.spent.money:,.6g}{limit}"))
        if self.spent.tokens or self.tokens is not None:
            limit = "" if self.tokens is None else f" of {self.tokens:,}"
            shown.append(("tokens", f"{self.spent.tokens:,}{limit}"))
        return shown

    def plain(self) -> dict[str, float | int | None]:
        """Write it as columns of a table, or as JSON."""
        return {
            "tokens": self.spent.tokens,
            "money": self.spent.money,
            "tokens_limit": self.tokens,
            "money_limit": self.money,
        }


def spending_of(folder: RunFolder, config: RunConfig) -> Spending | None:
    """Read what a run has spent; None where no oracle of it costs anything."""
    if not folder.purse.is_file():
        return None
    return Spending(Purse(record=folder.purse).spent, config.budget.tokens, config.budget.money)
