"""What is said where training has left the numbers: which step, on what, and that it was not taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_ROWS_NAMED = 6
_PROMPT_SHOWN = 60


class Diverged(UserError):
    """A gradient step whose loss or gradient is not finite, or what the model says after it; it was not taken.

    Weights and optimiser are as before the step, the labels that it would have taught wait on, and `state_dict` of the
    agent may be taken. Whoever knows more of the step than the one that raised this adds it.

    Args:
        what: What was trained, such as "the policy".
        step: Number of the gradient step, from 1.
        loss: Of the step.
        gradient_norm: Of the step, before clipping; None where it was not looked at.
        advice: What may be changed, in words.
        afterwards: What the weights make that the step leads to and is not finite, such as "log-probs"; empty where
            loss or gradient are not.

    Attributes:
        round: Number of the agent's round, from 0; None outside of one.
        batch: What the step was taken on, such as "16 pairs".
        rows: Which of them have a loss that is not finite themselves.
        prompt: That of the first of these.
        saved: Where the state from before the step is kept.
    """

    def __init__(
        self,
        what: str,
        *,
        step: int,
        loss: float,
        gradient_norm: float | None,
        advice: str,
        afterwards: str = "",
    ) -> None:
        super().__init__(what)
        self.afterwards = afterwards
        self.what, self.step, self.loss, self.gradient_norm, self.advice = what, step, loss, gradient_norm, advice
        self.round: int | None = None
        self.batch: str = ""
        self.rows: Sequence[int] = ()
        self.prompt: str | None = None
        self.saved: Path | None = None

    def name_rows(self, scores: Tensor, prompts: Sequence[str]) -> None:
        """Name the rows that are not finite by themselves.

        Args:
            scores: Of every row with the weights that stand, [M, ...].
            prompts: Of every row.
        """
        self.rows = (~scores.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        self.prompt = str(prompts[self.rows[0]]) if self.rows else None

    def __str__(self) -> str:
        figures = f"loss {self.loss:g}"
        if self.gradient_norm is not None:
            figures += f", gradient norm {self.gradient_norm:g}"
        if self.afterwards:
            figures += f"; with the weights that it leads to, {self.afterwards} are not finite"
        return (
            f"Gradient step {self.step} of {self.what} is not finite ({figures})"
            + ("" if self.round is None else f" in round {self.round}")
            + (f" on {self.batch}" if self.batch else "")
            + self._where()
            + ": it was not taken, and the state from before it is "
            + ("kept by the agent" if self.saved is None else f"in {str(self.saved)!r}")
            + f"; {self.advice}"
        )

    def _where(self) -> str:
        if not self.rows:
            return ""
        named = ", ".join(map(str, self.rows[:_ROWS_NAMED]))
        named += f" and {len(self.rows) - _ROWS_NAMED} more" if len(self.rows) > _ROWS_NAMED else ""
        prompt = "" if self.prompt is None else f" (the first on the prompt {self.prompt[:_PROMPT_SHOWN]!r})"
        return f", by itself in number {named} of them{prompt}"


def finite(*figures: float) -> bool:
    """Tell whether none of these is NaN or infinite."""
    return all(map(math.isfinite, figures))
