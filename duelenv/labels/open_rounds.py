"""The rows whose label may still come, as they were shown and played; not who answers, nor when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.labels.arrivals import Arrivals, Observation
from duelenv.observation import LazyObservation


@dataclass
class _OpenRound:
    """The rows of one round that are still open, and perhaps some that no longer are.

    Attributes:
        rows: Which rows the arrays hold, ascending, int64 [m].
        observation: Arrays [m, ...].
        actions: [m, 2] or [m, 3].
        asked: Labels asked for in the round, by the row's replicate, int64 [m].
        left: Which of them are open, bool [m].
    """

    rows: NDArray[np.int64]
    observation: dict[str, NDArray[Any]]
    actions: NDArray[np.int64]
    asked: NDArray[np.int64]
    left: NDArray[np.bool_]


class OpenRounds:
    """Keeps what an agent needs to learn from a label that comes later.

    Args:
        empty: An observation of no rows, arrays [0, ...], for when nothing arrives.
        action_size: 2, or 3 in selective worlds.
    """

    def __init__(self, empty: Observation, action_size: int) -> None:
        self._empty = empty
        self._no_actions = np.zeros((0, action_size), np.int64)
        self._none = np.zeros(0, np.int64)
        self._no_labels = np.zeros(0)
        self._rounds: dict[int, _OpenRound] = {}  # by number, ascending

    def __len__(self) -> int:
        return sum(int(kept.left.sum()) for kept in self._rounds.values())

    def keep(
        self,
        number: int,
        open_rows: NDArray[np.bool_],
        observation: Observation,
        actions: NDArray[np.int64],
        asked: NDArray[np.int64],
    ) -> None:
        """Keep the open rows of a round.

        Args:
            number: Of the round.
            open_rows: Which rows may still get their label, bool [N].
            observation: What was shown, arrays [N, ...].
            actions: What was played, [N, ...].
            asked: How many labels each row's replicate asked for, int64 [N].
        """
        rows = np.flatnonzero(open_rows)
        if not len(rows):
            return
        # Copies, because callers may go on writing into what they were given; what they cannot write into stays shared.
        every = len(rows) == len(open_rows)
        shown = {
            key: value if every and not value.flags.writeable else value[rows] for key, value in observation.items()
        }
        self._rounds[number] = _OpenRound(rows, shown, actions[rows], asked[rows], np.ones(len(rows), np.bool_))

    def arrive(
        self, now: int, rounds: NDArray[np.int64], rows: NDArray[np.int64], labels: NDArray[np.float64]
    ) -> Arrivals:
        """Close rows and return their labels with what was shown and played.

        Args:
            now: Number of the round that is played.
            rounds: Rounds of the labels, ascending, [M].
            rows: Their rows, ascending within a round, [M].
            labels: [M].
        """
        if not len(rows):
            return self.nothing(now)
        numbers, starts = np.unique(rounds, return_index=True)
        parts: list[tuple[_OpenRound, NDArray[np.int64]]] = []
        for number, wanted in zip(numbers.tolist(), np.split(rows, starts[1:]), strict=True):
            kept = self._rounds[number]
            places = np.searchsorted(kept.rows, wanted)
            kept.left[places] = False
            if not kept.left.any():
                del self._rounds[number]
            parts.append((kept, places))
        observation = LazyObservation({key: _Gather(parts, key) for key in parts[0][0].observation})
        actions = np.concatenate([kept.actions[places] for kept, places in parts])
        asked = np.concatenate([kept.asked[places] for kept, places in parts])
        return Arrivals(now, rounds, rows, labels, actions, observation, asked)

    def nothing(self, now: int) -> Arrivals:
        """Return that nothing arrived."""
        none = self._none
        return Arrivals(now, none, none, self._no_labels, self._no_actions, self._empty, none)

    def drop(self, number: int, row: int) -> None:
        """Close a row whose label will not come; one that is not kept is passed over."""
        kept = self._rounds.get(number)
        if kept is None:
            return
        kept.left &= kept.rows != row
        if not kept.left.any():
            del self._rounds[number]

    def keep_only(self, open_duels: Iterable[tuple[int, int]]) -> None:
        """Drop every row that is not among these (round, row)."""
        wanted = set(open_duels)
        for number, kept in list(self._rounds.items()):
            kept.left &= np.array([(number, row) in wanted for row in kept.rows.tolist()])
            if not kept.left.any():
                del self._rounds[number]

    def state_dict(self) -> dict[str, Any]:
        """Return the open rows."""
        return {
            "rounds": [
                {
                    "number": number,
                    "rows": kept.rows[kept.left],
                    "actions": kept.actions[kept.left],
                    "asked": kept.asked[kept.left],
                    "observation": {key: value[kept.left] for key, value in kept.observation.items()},
                }
                for number, kept in self._rounds.items()
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._rounds = {
            int(saved["number"]): _OpenRound(
                np.array(saved["rows"], np.int64),
                dict(saved["observation"]),
                np.array(saved["actions"], np.int64),
                np.array(saved["asked"], np.int64),
                np.ones(len(saved["rows"]), np.bool_),
            )
            for saved in state["rounds"]
        }


@dataclass(frozen=True)
class _Gather:
    """Puts one value of an observation together from several rounds."""

    parts: list[tuple[_OpenRound, NDArray[np.int64]]]
    key: str

    def __call__(self) -> NDArray[Any]:
        return np.concatenate([kept.observation[self.key][places] for kept, places in self.parts])
