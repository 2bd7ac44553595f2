"""How many of a run's duels told something, and which label brought the first and the third of them.

Where one response in a hundred has what the oracle is after, most duels are between two that lack it, and their labels
are nearly coins. What decides how fast an agent learns is how soon the others come. A duel counts as informative if its
better response wins with a probability of at least sigma(2) = .88: under the logistic link, if the utilities lie 2
logits apart or more. Of `rare_word` these are the duels in which exactly one side has the rare word, since its length
is worth less. It takes the truth to know, so that the runner counts, and no agent sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["INFORMATIVE_COLUMNS", "InformativeDuels"]

#: P(better wins) - P(other wins) of an informative duel: 2 sigma(2) - 1.
_CERTAINTY: Final = float(np.tanh(1.0))
#: The number of an informative duel, by the column that says which label it was.
_MILESTONES: Final = {"first_informative_label": 1, "third_informative_label": 3}
#: What is counted.
INFORMATIVE_COLUMNS: Final = ("informative_duels", *_MILESTONES)


class InformativeDuels:
    """Counts over the rounds of a cell.

    Args:
        replicates: Replicates R of the cell.
    """

    def __init__(self, replicates: int) -> None:
        self._answered = np.zeros(replicates, np.int64)
        self._informative = np.zeros(replicates, np.int64)
        self._labels = {name: np.full(replicates, np.nan) for name in _MILESTONES}

    def add(self, certainty: NDArray[np.float64]) -> None:
        """Count a round.

        Args:
            certainty: |P(first preferred) - P(second preferred)|, [R * B], rows of a replicate adjacent; NaN where
                nobody was asked or answered. Labels of a round are numbered in the order of rows.
        """
        rows = np.asarray(certainty, np.float64).reshape(len(self._answered), -1)
        number = self._answered[:, np.newaxis] + (~np.isnan(rows)).cumsum(axis=1)
        told = rows >= _CERTAINTY  # False for NaN
        so_far = self._informative[:, np.newaxis] + told.cumsum(axis=1)
        for name, milestone in _MILESTONES.items():
            here = told & (so_far == milestone)
            self._labels[name] = np.where(here.any(axis=1), (number * here).sum(axis=1), self._labels[name])
        self._answered, self._informative = number[:, -1], so_far[:, -1]

    def figures(self) -> dict[str, NDArray[np.float64]]:
        """Count all so far and say which label was the first and the third, by column, float64 [R]; NaN before that."""
        return {"informative_duels": self._informative.astype(np.float64)} | {
            name: labels.copy() for name, labels in self._labels.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs, as nested dicts of arrays."""
        return {"answered": self._answered, "informative": self._informative, "labels": dict(self._labels)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._answered, self._informative = state["answered"], state["informative"]
        self._labels = dict(state["labels"])
