"""What an agent hears in one call of `update`, cut into rectangular pieces, so that replicates stay array operations.

Labels of several rounds may arrive together, and some rows may have more of them than others. A piece has at most one
label of every row, with the observation and action that belong to it; pieces come in order, older rounds of a row
before newer ones, and the round that was just played is the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.core import Labels, Observation, Pairs
from duelenv.labels import Arrivals
from duelenv.observation import LazyObservation


class Piece(NamedTuple):
    """At most one duel of every row.

    Attributes:
        observation: What was shown, arrays [N, ...]; in rows without a label it may be that of another round.
        actions: What was played, int64 [N, 2] or [N, 3].
        labels: float64 [N], NaN in rows that have none in this piece.
        rounds: Number of the round of each row's label, int64 [N].
        asked: How many labels the row's replicate asked for in that round, int64 [N].
    """

    observation: Observation
    actions: Pairs
    labels: Labels
    rounds: NDArray[np.int64]
    asked: NDArray[np.int64]


def late_pieces(late: Arrivals, observation: Observation, num_rows: int) -> list[Piece]:
    """Cut labels that arrived late into pieces.

    Args:
        late: They.
        observation: Of the current round, [N, ...]: it fills the rows that have no label in a piece.
        num_rows: N.
    """
    ranks = _rank_in_row(late.row)
    pieces = []
    for rank in range(int(ranks.max(initial=-1)) + 1):
        places = np.flatnonzero(ranks == rank)
        rows = late.row[places]
        actions = np.zeros((num_rows, late.actions.shape[1]), np.int64)
        labels = np.full(num_rows, np.nan)
        rounds, asked = np.full(num_rows, late.now), np.ones(num_rows, np.int64)
        actions[rows], labels[rows] = late.actions[places], late.label[places]
        rounds[rows], asked[rows] = late.round[places], late.asked[places]
        shown = LazyObservation({key: _Filled(late, observation, key, places) for key in late.observation})
        pieces.append(Piece(shown, actions, labels, rounds, asked))
    return pieces


@dataclass(frozen=True)
class _Filled:
    """One value of a piece's observation, put together when it is read."""

    late: Arrivals
    current: Mapping[str, Any]
    key: str
    places: NDArray[np.int64]

    def __call__(self) -> NDArray[Any]:
        rows = self.late.row[self.places]
        filled: NDArray[Any] = np.array(self.current[self.key])
        filled[rows] = self.late.observation[self.key][self.places]
        return filled


def _rank_in_row(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many earlier entries hold the same row, int64 [M]."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return ranks
