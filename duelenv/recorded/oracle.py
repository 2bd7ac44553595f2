"""The oracle `recorded`: answers out of a record, of the very pair or of the nearest one, and how near that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences
from duelenv.oracles.judge.digests import digest_of
from duelenv.oracles.recorded import PairRecord
from duelenv.oracles.services.figures import Figures
from duelenv.oracles.services.home import Home
from duelenv.recorded.nearest import NearestPairs
from duelenv.recorded.reading import read_record

MATCHES: Final = ("strict", "nearest")
UNKNOWN: Final = ("refuse", "decline")


@dataclass
class Tally:
    """How duels were answered so far.

    Attributes:
        exact: By the very pair.
        near: By another pair of the same prompt.
        equal: With 1/2, since both responses are the same text.
        declined: Not at all.
        similarity: Sum over `near` of the similarity of the pair that answered.
    """

    exact: int = 0
    near: int = 0
    equal: int = 0
    declined: int = 0
    similarity: float = 0.0

    @property
    def share_exact(self) -> float:
        """Share of the answers out of the record that are of the very pair; NaN before the first."""
        found = self.exact + self.near
        return self.exact / found if found else float("nan")

    @property
    def mean_similarity(self) -> float:
        """Mean similarity of the pairs that answered, 1 where it was the very pair; NaN before the first answer."""
        found = self.exact + self.near
        return (self.exact + self.similarity) / found if found else float("nan")

    def add(self, other: Tally) -> None:
        """Count another one's duels too."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        text = f"{self.exact} by the very pair, {self.near} by a near one, {self.declined} declined"
        if self.exact + self.near:
            text += f"; mean similarity {self.mean_similarity:.3f}, share of exact {self.share_exact:.3f}"
        return text


class Recorded:
    """Answers duels with what was recorded of the same pair, in either order, or of the nearest one.

    A pair that was recorded several times has the mean of its answers. A response against itself gets 1/2.

    Args:
        record: What was recorded.
        match: "strict", the very pair; "nearest", else the most similar pair of the same prompt, see `NearestPairs`.
        unknown: What becomes of a duel that the record has no answer to: "refuse" it, or "decline", so that its label
            is NaN for good.
        floor: For "nearest", the least similarity of a pair that may answer; below it the duel is declined.
        home: Where a run keeps what oracles leave: how each duel was answered is noted there, for its report.

    Attributes:
        tally: How the duels were answered, a `Tally`.

    Raises:
        UserError: An unknown word, a floor outside [0, 1], or one for "strict".
    """

    def __init__(
        self,
        record: PairRecord,
        *,
        match: str = "strict",
        unknown: str = "refuse",
        floor: float = 0.0,
        home: Home | None = None,
    ) -> None:
        checks.one_of("match", match, MATCHES)
        self._declines = checks.one_of("unknown", unknown, UNKNOWN) == "decline"
        self._floor = checks.number("floor", floor, low=0.0, high=1.0)
        if floor and match == "strict":
            raise UserError(f"floor is {floor:g} but match is 'strict', which knows no nearness; set match: nearest")
        self.tally = Tally()
        self._record = record
        self._nearest = NearestPairs(record) if match == "nearest" else None
        self._figures = Figures(None if home is None else home.folder)

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Look up recorded probabilities of a win and a tie, float64 [N]; NaN where it declines.

        Raises:
            UserError: The record has no answer, and `unknown` is "refuse".
        """
        win, tie = np.full(len(prompts), np.nan), np.zeros(len(prompts))
        noted: dict[str, dict[bytes, float]] = {name: {} for name in ("exact", "declined", "similarity")}
        batch = Tally()
        for row, duel in enumerate(zip(prompts, first, second, strict=True)):
            one = Tally()
            found = self._answer(*duel, one)
            batch.add(one)
            if found is not None:
                win[row], tie[row] = found
            key = digest_of(duel)
            if not one.equal:
                noted["exact"][key], noted["declined"][key] = one.exact, one.declined
            if one.exact + one.near:
                noted["similarity"][key] = one.mean_similarity
        self.tally.add(batch)
        for name, values in noted.items():
            self._figures.note("recorded", name, values)
        return Preferences(win, tie)

    def _answer(self, prompt: str, first: str, second: str, batch: Tally) -> tuple[float, float] | None:
        if first == second:
            batch.equal += 1
            return 0.5, 0.0
        found = self._record.find(prompt, first, second)
        if found is not None:
            batch.exact += 1
            return found
        near = None if self._nearest is None else self._nearest.find(prompt, first, second)
        if near is not None and near.similarity >= self._floor:
            batch.near += 1
            batch.similarity += near.similarity
            return near.win, near.tie
        if near is None and not self._declines:
            raise self._record.lacking(prompt, first, second)
        batch.declined += 1
        return None


def load_recorded(
    path: str | Path,
    *,
    match: str = "strict",
    unknown: str = "refuse",
    floor: float = 0.0,
    columns: Mapping[str, Any] | None = None,
    home: Home | None = None,
) -> Recorded:
    """Make the oracle `recorded`.

    Args:
        path: A table of preferences, an export of labels, or a run's folder, see `read_record`.
        match: As for `Recorded`, and so the next three.
        unknown: What becomes of a duel without an answer.
        floor: Least similarity.
        columns: How a table is read: settings of `duelenv.data.load_pairs`.
        home: What a run gives.

    Raises:
        UserError: A setting or the file is not as expected.
    """
    checks.one_of("match", match, MATCHES)  # before a large file is read
    return Recorded(
        read_record(path, **checks.mapping("columns", columns)), match=match, unknown=unknown, floor=floor, home=home
    )
