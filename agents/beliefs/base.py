"""What every belief can do. The vocabulary of `agents`; no inference is here."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError


@runtime_checkable
class Belief(Protocol):
    """A posterior over the utility of a candidate, given its features.

    Shapes: N rows (row n belongs to replicate n // batch), K candidates, d features, S draws. Labels are 1 (the first
    was preferred), 0, 0.5 (a declared tie: a soft target) or NaN (no label: the row is ignored).

    A belief draws from streams of its own, one per row, so that the draws of different rows are independent and a
    replicate meets the same draws whatever else is in the batch.
    """

    def sample(self, features: NDArray[np.floating[Any]], num_samples: int) -> NDArray[np.floating[Any]]:
        """Return joint utility draws [S, N, K] for features [N, K, d], exchangeable along S, independent per row."""
        ...

    def mean(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the utility's point estimate [N, K] for features [N, K, d]; draws nothing and changes nothing."""
        ...

    def update(
        self,
        first: NDArray[np.floating[Any]],
        second: NDArray[np.floating[Any]],
        labels: NDArray[np.floating[Any]],
    ) -> dict[str, float]:
        """Learn from the duels of features `first` and `second`, both [N, d], with labels [N]; return metrics.

        N may be any multiple of the replicates, rows of a replicate adjacent: labels that come late come with others.
        Called once a round.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the future depends on, as nested dicts of numbers, strings and arrays."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, in a belief made with the same arguments."""
        ...


def labelled(
    first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """Check the duels given to `Belief.update` and return which rows have a label, bool [N].

    Raises:
        UserError: if a label is outside [0, 1], the shapes do not fit, or a feature is not finite in such a row.
    """
    if first.ndim != 2 or second.shape != first.shape or labels.shape != first.shape[:1]:
        raise UserError(
            f"first, second and labels have shapes {first.shape}, {second.shape}, {labels.shape}; "
            "give [N, d], [N, d] and [N]"
        )
    if ((labels < 0) | (labels > 1)).any():
        raise UserError(f"labels range from {np.nanmin(labels)} to {np.nanmax(labels)}; give values in [0, 1] or NaN")
    known: NDArray[np.bool_] = ~np.isnan(labels)
    finite = np.isfinite(first).all(1) & np.isfinite(second).all(1)
    if not finite[known].all():
        raise UserError(
            f"features of {int((known & ~finite).sum())} of {int(known.sum())} labelled duels are not finite, row "
            f"{int(np.flatnonzero(known & ~finite)[0])} the first; nothing was learnt from them: give finite features"
        )
    return known
