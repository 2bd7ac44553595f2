"""Which of a run's duels the page shows, and what its filters go by: a share of all that fits, spread evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.measurements import Results

__all__ = ["Duel", "DuelView", "duel_view"]

#: Duels on the page, and letters of their texts.
_MOST: Final = 1_000
_LETTERS: Final = 1_500_000
_COLUMNS: Final = ("agent", "seed", "step", "prompt", "first", "second", "label", "win", "tie")


@dataclass(frozen=True)
class Duel:
    """A duel with a label.

    Attributes:
        agent: Label of the agent.
        seed: Its seed.
        step: The round, from 1.
        prompt: The prompt.
        first: The first response.
        second: The second one.
        label: What the agent was told.
        probability: That the first is preferred, a tie half a win, as the oracle said; None where only the label is
            known.
    """

    agent: str
    seed: int
    step: int
    prompt: str
    first: str
    second: str
    label: float
    probability: float | None

    @property
    def won(self) -> str:
        """`first`, `second` or `tie`."""
        return "tie" if self.label == 0.5 else "first" if self.label > 0.5 else "second"

    @property
    def label_text(self) -> str:
        """The label as people read it."""
        return {1.0: "1", 0.0: "0", 0.5: "tie"}.get(self.label, f"{self.label:g}")

    @property
    def surprising(self) -> bool:
        """Whether the label went against the odds."""
        return self.probability is not None and (self.label - 0.5) * (self.probability - 0.5) < 0


@dataclass(frozen=True)
class DuelView:
    """The duels on the page.

    Attributes:
        duels: By agent, seed and round.
        total: How many there are with texts and a label.
        seeds: Seeds that occur.
    """

    duels: tuple[Duel, ...]
    total: int

    @property
    def agents(self) -> list[str]:
        """Labels of agents that occur."""
        return list(dict.fromkeys(duel.agent for duel in self.duels))

    @property
    def seeds(self) -> list[int]:
        """Seeds that occur."""
        return sorted({duel.seed for duel in self.duels})

    @property
    def judged(self) -> bool:
        """Whether of any the oracle's probability is known."""
        return any(duel.probability is not None for duel in self.duels)


def duel_view(results: Results) -> DuelView | None:
    """Choose duels of finished cells: of each agent as many, at even distances over seeds and rounds.

    Returns:
        None where no duels with texts and labels are kept.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = RunFolder(results.directory).labels
    if not path.is_file():
        return None
    present = [name for name in _COLUMNS if name in pq.read_schema(path).names]
    every = pq.read_table(path, columns=present)
    every = every.filter(pc.and_(pc.is_valid(every["label"]), pc.is_valid(every["prompt"])))
    if not len(every):
        return None
    by_agent = [every.filter(pc.equal(every["agent"], agent)) for agent in results.agents]
    by_agent = [table for table in by_agent if len(table)]
    quota = max(_MOST // max(len(by_agent), 1), 2)
    while True:
        rows = [table.take(pa.array(_even(len(table), quota))) for table in by_agent]
        duels = tuple(_duel(row) for table in rows for row in table.to_pylist())
        letters = sum(len(duel.prompt) + len(duel.first) + len(duel.second) for duel in duels)
        if letters <= _LETTERS or quota <= 2:
            return DuelView(duels, len(every))
        quota = max(quota * _LETTERS // letters, 2)


def _even(count: int, quota: int) -> Any:
    """Places of at most `quota` rows of `count`, at even distances, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(quota, count)).round().astype(np.int64))


def _duel(row: dict[str, Any]) -> Duel:
    win, tie = row.get("win"), row.get("tie")
    probability = None if win is None else float(win) + float(tie or 0.0) / 2.0
    texts = {name: row[name] for name in ("agent", "seed", "step", "prompt", "first", "second")}
    return Duel(**texts, label=float(row["label"]), probability=probability)
