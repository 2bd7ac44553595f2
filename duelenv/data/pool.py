"""Recorded responses and preferences in memory, checked when made; how they are read from files is not known here."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError

PAIR_MARGIN = 3.0
"""Default utility difference of a chosen over a rejected response: asked again, 95 % would agree."""


@dataclass(frozen=True, eq=False)
class Pool:
    """P prompts with K recorded responses each, every one with a utility.

    Attributes:
        prompts: The P prompts; a text may occur twice where pairs share it.
        responses: Strings, object [P, K]. Columns mean nothing: the same responder may stand
            anywhere.
        utilities: float64 [P, K], finite, in units of the link (nats of log-odds under a logistic
            link).
        responders: Who wrote each response, object [P, K]; None where the table does not say.
        rows: int64 [P, K], the table's row that each response comes from, so that an array with one
            line for each row of the table (embeddings) finds its place whatever was dropped.
        num_rows: Rows of the table, dropped ones included.
        notes: One sentence for everything that was dropped or guessed.
        reading: Which columns of the table were taken for what.
    """

    prompts: tuple[str, ...]
    responses: NDArray[np.object_]
    utilities: NDArray[np.float64]
    responders: NDArray[np.object_] | None = None
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    num_rows: int = 0
    notes: tuple[str, ...] = ()
    reading: str = ""

    def __post_init__(self) -> None:
        responses = _object_matrix(self.responses)
        utilities = np.array(self.utilities, np.float64)
        shape = (len(self.prompts), responses.shape[1])
        if not self.prompts:
            raise UserError("a pool got no prompts, expected at least one; give prompts with two responses each")
        if shape[1] < 2:
            raise UserError(f"a pool got K={shape[1]} responses a prompt, expected at least 2; a duel needs two")
        named = {"responses": responses, "utilities": utilities}
        if self.responders is not None:
            named["responders"] = _object_matrix(self.responders)
        if self.rows.size:
            named["rows"] = np.array(self.rows, np.int64)
        else:
            named["rows"] = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape)
        for name, array in named.items():
            if array.shape != shape:
                raise UserError(
                    f"a pool of {shape[0]} prompts got {name} of shape {array.shape}, expected {shape}; "
                    "give K values for each prompt"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not np.isfinite(utilities).all():
            prompt, slot = np.argwhere(~np.isfinite(utilities))[0]
            raise UserError(
                f"a pool got the utility {utilities[prompt, slot]} for response {slot} of prompt {prompt}, "
                "expected a finite number; leave that response out"
            )
        object.__setattr__(self, "num_rows", max(self.num_rows, int(self.rows.max()) + 1))

    def __deepcopy__(self, memo: dict[int, Any]) -> Pool:
        # Nothing in a pool can change, and Gymnasium copies what an environment is made with.
        return self

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return len(self.prompts)

    @property
    def num_responses(self) -> int:
        """Responses K of each prompt."""
        return int(self.responses.shape[1])

    def pairs(self) -> Pairs:
        """Return every two responses to a prompt that differ in utility as a pair, with the difference as its margin.

        Raises:
            UserError: No two differ.
        """
        found = [
            (prompt, *(pair if self.utilities[prompt, pair[0]] > self.utilities[prompt, pair[1]] else pair[::-1]))
            for prompt in range(self.num_prompts)
            for pair in itertools.combinations(range(self.num_responses), 2)
            if self.utilities[prompt, pair[0]] != self.utilities[prompt, pair[1]]
        ]
        if not found:
            raise UserError("all responses to a prompt have the same utility, so that no pair has a better one")
        prompts, better, worse = (list(column) for column in zip(*found, strict=True))
        return Pairs(
            prompts=tuple(self.prompts[prompt] for prompt in prompts),
            chosen=tuple(self.responses[prompts, better]),
            rejected=tuple(self.responses[prompts, worse]),
            margins=self.utilities[prompts, better] - self.utilities[prompts, worse],
            rows=np.arange(len(found), dtype=np.int64),
            num_rows=len(found),
            notes=self.notes,
            reading=self.reading,
        )

    @property
    def caution(self) -> str | None:
        """What cannot be compared on this pool, in words; None where nothing stands against it."""
        spread = np.ptp(self.utilities, axis=1)
        if not spread.any():
            return "all responses to a prompt have the same utility, so that no agent can be better than another"
        if self.num_responses == 2:
            same = f", and every pair has the same margin ({spread[0]:g}), so that their regret is the same too"
            return (
                "two responses to each prompt leave nothing to choose: agents that duel two different ones get the "
                f"same labels{same if np.allclose(spread, spread[0]) else ''}"
            )
        return None


@dataclass(frozen=True, eq=False)
class Pairs:
    """N recorded preferences.

    Attributes:
        prompts: N prompts.
        chosen: The N responses that were preferred.
        rejected: The N others.
        margins: float64 [N], the difference of recorded scores, chosen minus rejected; None where
            only the choice is recorded.
        labels: float64 [N] in [0.5, 1], the share of the recorded answers that preferred the chosen response: 1 where
            there was one answer, 0.5 a tie, of which chosen is the first. None where every one is 1.
        rows: int64 [N], the table's row of each pair.
        num_rows: Rows of the table, dropped ones included.
        notes: One sentence for everything that was dropped or guessed.
        reading: Which columns of the table were taken for what.
    """

    prompts: tuple[str, ...]
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    margins: NDArray[np.float64] | None = None
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    num_rows: int = 0
    notes: tuple[str, ...] = ()
    labels: NDArray[np.float64] | None = None
    reading: str = ""

    def __len__(self) -> int:
        return len(self.prompts)

    def pool(self, margin: float = PAIR_MARGIN) -> Pool:
        """Return the pairs as a pool of K = 2 responses a prompt.

        The pool's rows count every response, so that an array of features for it has two lines for
        each row of the table, chosen before rejected.

        Args:
            margin: Utility difference of every pair where no scores are recorded; the chosen
                response then wins a duel with probability sigma(margin) under the logistic link, or with the recorded
                share of answers where that is less (1/2 for a tie). With recorded scores their difference stands
                instead.

        Raises:
            UserError: `margin` is not a positive number.
        """
        checks.number("margin", margin, above=0.0)
        difference = np.full(len(self), margin) if self.margins is None else self.margins
        if self.margins is None and self.labels is not None:
            with np.errstate(divide="ignore"):
                difference = np.minimum(margin, np.log(self.labels / (1.0 - self.labels)))
        responses = np.array([self.chosen, self.rejected], dtype=object).T
        return Pool(
            prompts=self.prompts,
            responses=responses,
            utilities=np.stack([0.5 * difference, -0.5 * difference], axis=1),
            rows=np.stack([2 * self.rows, 2 * self.rows + 1], axis=1),
            num_rows=2 * self.num_rows,
            notes=self.notes,
            reading=self.reading,
        )


def _object_matrix(rows: Any) -> NDArray[np.object_]:
    """Return nested sequences of strings as an object matrix, whatever NumPy thinks of strings."""
    listed = [list(row) for row in rows]
    if len({len(row) for row in listed}) > 1:
        raise UserError("a pool got prompts with unequal numbers of responses; give K responses for each prompt")
    matrix = np.empty((len(listed), len(listed[0]) if listed else 0), dtype=object)
    for index, row in enumerate(listed):
        matrix[index] = row
    return matrix
