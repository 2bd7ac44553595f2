"""What somebody can say of two responses, and the probabilities that it stands for."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

SLIGHT: Final = 0.75
"""Probability that the better one is preferred, where somebody says that it is slightly better."""


class Verdict(StrEnum):
    """What was said, of the responses as they stood on the page."""

    LEFT = "left"
    SLIGHTLY_LEFT = "slightly_left"
    TIE = "tie"
    SLIGHTLY_RIGHT = "slightly_right"
    RIGHT = "right"
    SKIP = "skip"
    """Not now: it comes back, to the same annotator too."""
    DECLINE = "decline"
    """Never: the annotator has answered that there is no answer."""

    def preference(self, swapped: bool) -> tuple[float, float]:
        """Return what it says of the first and second response as they were asked about: (win, tie).

        Args:
            swapped: Whether the second response stood on the left.

        Returns:
            Probability that the first is preferred, and that of a tie; (NaN, 0) for `SKIP` and `DECLINE`.

        Example:
            >>> Verdict.LEFT.preference(swapped=True)
            (0.0, 0.0)
        """
        if self is Verdict.TIE:
            return 0.0, 1.0
        left = _LEFT.get(self, math.nan)
        return (1.0 - left if swapped else left), 0.0


_LEFT: Final = {
    Verdict.LEFT: 1.0,
    Verdict.SLIGHTLY_LEFT: SLIGHT,
    Verdict.SLIGHTLY_RIGHT: 1.0 - SLIGHT,
    Verdict.RIGHT: 0.0,
}
