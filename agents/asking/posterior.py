"""A posterior as the rules of the linear world read one: means of the candidates, and deviations of their gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import MANY_DRAWS, AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.linear_logistic import LinearLogistic
from duelenv.agents.contextual.design import Geometry, measure
from duelenv.core import Observation

Floats = NDArray[np.floating[Any]]

#: Of a unit of utility: decides among candidates that look exactly alike.
TIE: Final = 1e-5


def measured(resources: AskResources, settings: SettingsReader) -> Callable[[Observation], Geometry]:
    """Return what looks at a round: means, and deviations of gaps, of the agent's belief."""
    count = resources.num_samples(settings, MANY_DRAWS)
    belief, streams = resources.belief, resources.streams

    def look(observation: Observation) -> Geometry:
        features = observation["features"]
        ties = TIE * streams.uniform(features.shape[1])
        if isinstance(belief, LinearLogistic) and belief.settings.temperature == 1.0:
            return measure(features, belief, None, ties.astype(np.float32))
        return geometry(belief.sample(features, count), ties)

    return look


def geometry(draws: Floats, ties: Floats) -> Geometry:
    """Return draws as a geometry: means of the candidates, and deviations of gaps as widths.

    With it the rules of the linear world read any posterior. Its |z_ij| is the standard deviation of r_i - r_j over the
    draws.

    Args:
        draws: [S, N, K].
        ties: Small numbers that decide among equals, [N, K].
    """
    mean = draws.mean(axis=0, dtype=np.float64)
    left = np.moveaxis((draws - mean) / np.sqrt(len(draws)), 0, -1).astype(np.float32)  # (N, K, S)
    small = np.asarray(ties, np.float32)
    # Only differences count, and from the first candidate float32 keeps them exact.
    relative = (mean - mean[:, :1]).astype(np.float32) + small
    return Geometry(relative, left, left, small)


def deciding_geometry(draws: Floats, ties: Floats) -> tuple[Geometry, NDArray[np.float32]]:
    """Return the part of a posterior that decides who is best, as `vids` reads it.

    Of the variance of a gap only what lies between the draws that name different candidates tells who is best: |z_ij|^2
    is sum_a pi_a (E[r_i - r_j | a is best] - E[r_i - r_j])^2 (Russo and Van Roy 2018, section 5.3).

    Args:
        draws: [S, N, K].
        ties: As in `geometry`.

    Returns:
        The geometry, and E[max_k r_k - r_b] of the favourite b under the mean, [N].
    """
    whole = geometry(draws, ties)
    deviations = np.moveaxis(draws - draws.mean(axis=0, dtype=np.float64), 0, 1)  # (N, S, K)
    named = draws.argmax(axis=-1).T[..., np.newaxis] == np.arange(draws.shape[-1])  # (N, S, K)
    sums = named.swapaxes(1, 2).astype(np.float64) @ deviations  # pi_a S m_a, (N, a, K)
    counts = np.maximum(named.sum(axis=1), 1)[..., np.newaxis]
    left = (sums / np.sqrt(counts * len(draws))).swapaxes(1, 2).astype(np.float32)  # (N, K, a)
    favourite = whole.mean.argmax(axis=1)
    lost = draws.max(axis=-1) - np.take_along_axis(draws, favourite[np.newaxis, :, np.newaxis], axis=-1)[..., 0]
    return Geometry(whole.mean, left, left, whole.ties), lost.mean(axis=0).astype(np.float32)
