"""Logged duels: what was shown, which two were played, what came of it, and how likely the two were to be played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.core import AgentView
from duelenv.ground.errors import UserError
from duelenv.spaces import Unicode, UnicodeArray

__all__ = ["DuelLog"]


@dataclass(frozen=True, eq=False)
class DuelLog:
    """T logged duels among K candidates each, in the order in which they were fought.

    Attributes:
        features: Of the candidates, float32 [T, K, d].
        pairs: The two that were played, the first and the second, int64 [T, 2].
        labels: In [0, 1]: 1 where the first was preferred; NaN where there is none.
        propensities: q, float64 [T]: the probability with which the logging policy played these two, in whichever
            order, given what it was shown and had learnt by then.
        replicates: int64 [T]; rounds of one number share a truth, and one agent learns from them. All 0 by default.
        prompts: Object [T], in a log of texts.
        responses: Object [T, K], likewise.

    Raises:
        UserError: The shapes do not fit, or a value is out of range; a propensity must be above 0 and at most 1.
    """

    features: NDArray[np.float32]
    pairs: NDArray[np.int64]
    labels: NDArray[np.float64]
    propensities: NDArray[np.float64]
    replicates: NDArray[np.int64] | None = None
    prompts: NDArray[np.object_] | None = None
    responses: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        features = np.asarray(self.features, np.float32)
        if features.ndim != 3 or not features.size or features.shape[1] < 2:
            raise UserError(
                f"features of a log have the shape {features.shape}, expected rounds, candidates (2 or more) "
                "and features; give an array [T, K, d]"
            )
        rounds, size = features.shape[:2]
        replicates = np.zeros(rounds, np.int64) if self.replicates is None else np.asarray(self.replicates, np.int64)
        pairs, labels = np.asarray(self.pairs), np.asarray(self.labels, np.float64)
        propensities = np.asarray(self.propensities, np.float64)
        shapes = [(pairs, (rounds, 2), "pairs"), (labels, (rounds,), "labels")]
        shapes += [(propensities, (rounds,), "propensities"), (replicates, (rounds,), "replicates")]
        for array, shape, name in shapes:
            if array.shape != shape:
                raise UserError(f"{name} of a log have the shape {array.shape}, expected {shape}; give one a round")
        if pairs.dtype.kind not in "iu" or pairs.min() < 0 or pairs.max() >= size:
            raise UserError(f"pairs of a log are not all whole numbers below {size}, the number of candidates")
        wrong = (labels < 0.0) | (labels > 1.0)  # False for NaN
        if wrong.any():
            place = int(wrong.argmax())
            raise UserError(f"round {place} has the label {labels[place]:g}, expected a number from 0 to 1, or nothing")
        wrong = ~((propensities > 0.0) & (propensities <= 1.0))
        if wrong.any():
            place = int(wrong.argmax())
            raise UserError(
                f"round {place} has the propensity {propensities[place]:g}, expected a number above 0 and at most 1: "
                "the probability with which the two were played, without which nothing can be told of other pairs"
            )
        for name, value in (
            ("features", features),
            ("pairs", pairs.astype(np.int64)),
            ("labels", labels),
            ("propensities", propensities),
            ("replicates", replicates),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_candidates(self) -> int:
        """Candidates K of every round."""
        return int(self.features.shape[1])

    @property
    def of_replicate(self) -> NDArray[np.int64]:
        """The replicate of every round, int64 [T]."""
        assert self.replicates is not None
        return self.replicates

    def take(self, rounds: Any) -> DuelLog:
        """Return some of the rounds, by their places or a mask."""
        held = {item.name: getattr(self, item.name) for item in fields(self)}
        taken: dict[str, Any] = {name: None if array is None else array[rounds] for name, array in held.items()}
        return DuelLog(**taken)

    def by_replicate(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield every replicate's number, and the places of its rounds in order."""
        for number in np.unique(self.of_replicate):
            yield int(number), np.flatnonzero(self.of_replicate == number)

    def split(self, share: float) -> tuple[DuelLog, DuelLog]:
        """Return the first rounds of every replicate, a share of them, and the others."""
        early = np.zeros(len(self), bool)
        for _, places in self.by_replicate():
            early[places[: round(share * len(places))]] = True
        return self.take(early), self.take(~early)

    def observation(self, places: Any) -> dict[str, Any]:
        """Return what was shown in some rounds, as one row each, as an agent is shown it."""
        shown: dict[str, Any] = {"features": self.features[places]}
        if self.prompts is not None and self.responses is not None:
            shown |= {"prompt": self.prompts[places], "responses": self.responses[places]}
        return shown

    def view(self) -> AgentView:
        """Return what an agent of one replicate may know of it."""
        size, dim = self.features.shape[1:]
        space: dict[str, spaces.Space[Any]] = {"features": spaces.Box(-np.inf, np.inf, (size, dim), np.float32)}
        if self.prompts is not None:
            space |= {"prompt": Unicode(), "responses": UnicodeArray((size,))}
        return AgentView(
            world="a log of duels",
            observation_space=spaces.Dict(space),
            action_space=spaces.MultiDiscrete([size, size]),
            num_envs=1,
            batch=1,
            num_candidates=size,
            horizon=int(np.bincount(np.unique(self.of_replicate, return_inverse=True)[1]).max()),
            selective=False,
            scalar=False,
            fixed_candidates=bool((self.features == self.features[0]).all()),
        )
