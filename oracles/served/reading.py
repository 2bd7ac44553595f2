"""From what a model says of a response to its utility: which label counts, and logits where probabilities came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.served.shapes import Row
from duelenv.oracles.services.retrying import Refused

Label = str | int | Sequence[str | int] | None
"""One label of a model, or two whose difference counts, the better first; None where it has one."""

SCALES: Final = ("raw", "probability")


class Reading:
    """Reads a utility from a row of scores.

    With `scale: raw`, a score is the utility as it comes. With `scale: probability`, an activation cannot be switched
    off, and is undone: of one label it was a sigmoid, whose inverse is log(p / (1 - p)); of several it was a softmax,
    under which log(p_a / p_b) is the difference of two logits, while a single logit is lost.

    Args:
        label: Which labels count.
        scale: One of `SCALES`.
    """

    def __init__(self, label: Label, scale: str) -> None:
        self.scale = checks.one_of("scale", scale, SCALES)
        wanted: list[Any] = [] if label is None else list(label) if isinstance(label, list | tuple) else [label]
        kinds = all(isinstance(one, str | int) and not isinstance(one, bool) for one in wanted)
        if len(wanted) > 2 or not kinds or len(set(map(str, wanted))) < len(wanted) or label in ([], ()):
            raise UserError(f"label is {label!r}, expected one label or two different ones, the better first")
        self._wanted: list[str | int] = wanted

    def utility(self, row: Row) -> float:
        """Find the utility that a row of scores stands for.

        Raises:
            Refused: The row has no such label, or its numbers are not on the scale; it will be the same next time.
        """
        chosen = [self._of(row, one) for one in self._wanted] or [self._only(row)]
        if self.scale == "raw":
            self._check_raw(row)
            return chosen[0] - chosen[1] if len(chosen) > 1 else chosen[0]
        if any(not 0.0 < value < 1.0 for value in chosen):
            raise Refused(
                f"the server answers {', '.join(f'{value:g}' for value in chosen)} where a probability between 0 and 1 "
                "was expected, of which a logit could be made; ask for raw scores"
            )
        if len(chosen) > 1:
            return math.log(chosen[0]) - math.log(chosen[1])
        if len(row) > 1:
            raise Refused(
                f"the model has {len(row)} labels, and a softmax leaves only differences of logits; name two with "
                "label=[better, worse], or ask for raw scores"
            )
        return math.log(chosen[0]) - math.log1p(-chosen[0])

    def _only(self, row: Row) -> float:
        if len(row) > 1:
            raise Refused(
                f"the model has {len(row)} labels ({_names(row)}), and the utility is one of their scores; choose it "
                "with label=.., or two of them, the better first, for a difference"
            )
        return next(iter(row.values()))

    def _of(self, row: Row, label: str | int) -> float:
        if label not in row:
            raise Refused(f"label is {label!r}, expected one that the server knows: {_names(row)}")
        return row[label]

    def _check_raw(self, row: Row) -> None:
        values = list(row.values())
        if len(values) > 1 and min(values) >= 0.0 and abs(sum(values) - 1.0) < _SUM:
            raise Refused(
                f"the server answers {', '.join(f'{value:.4g}' for value in values[:4])}, which sum to 1: it applies a "
                "softmax though raw scores were asked for; see 'extra' for older servers, or set scale to probability"
            )


#: Probabilities in half precision sum to 1 up to this.
_SUM: Final = 2e-3


def _names(row: Row) -> str:
    return ", ".join(str(name) for name in list(row)[:8])
