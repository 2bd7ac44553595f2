"""Several reward models as a population of annotators: a duel is judged by a member, and nobody knows by which.

Not an average of scores: the mean of preferences has no utility behind it, and may be cyclic (Condorcet) though no
member is. For one reward model see `duelenv.oracles.reward_model`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences, Unanswered, UtilityOracle

ANNOTATORS: Final = ("mean", "sampled")


class RewardModels:
    """P(first preferred) = sum over members m of w_m F_m(u_m(first) - u_m(second)).

    With `annotator="mean"` the annotator of each duel is a member drawn anew, so that the probability is the
    population's mean. With "sampled" each pair of responses has one member who judges it, drawn by the pair itself: the
    same pair, in either order and in every process, is judged by the same member.

    Attributes:
        members: M utility oracles.
        weights: Probability of each member, float64 [M].
        free: Whether all members are.
    """

    def __init__(
        self,
        members: Sequence[UtilityOracle],
        *,
        weights: ArrayLike | None = None,
        annotator: str = "mean",
        seed: int = 0,
    ) -> None:
        """Take the members as they are, each with its own link.

        Args:
            members: M utility oracles, at least one.
            weights: How often each judges, in any unit; alike by default.
            annotator: One of `ANNOTATORS`.
            seed: Of the draw of members.

        Raises:
            UserError: A setting is refused.
        """
        if not members:
            raise UserError("the population has no members, expected at least one reward model; name some")
        self.members = list(members)
        given = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape != (len(members),) or not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
            raise UserError(
                f"weights are {weights!r}, expected {len(members)} numbers of at least 0, not all 0, one for each "
                "member"
            )
        self.weights: NDArray[np.float64] = given / given.sum()
        self._sampled = checks.one_of("annotator", annotator, ANNOTATORS) == "sampled"
        self._seed = checks.integer("seed", seed, low=0)
        self.free = all(member.free for member in self.members)

    @classmethod
    def load(
        cls,
        members: Sequence[str | Mapping[str, Any]],
        *,
        common: Mapping[str, Any] | None = None,
        weights: Sequence[float] | None = None,
        annotator: str = "mean",
        seed: int = 0,
    ) -> RewardModels:
        """Load the members with transformers.

        Args:
            members: For each its path, or its settings as `RewardModel.from_pretrained` takes them.
            common: Settings of all members, unless they have their own.
            weights: As for the constructor.
            annotator: As for the constructor.
            seed: As for the constructor.

        Raises:
            UserError: A model cannot be loaded, or a setting is refused.
        """
        from duelenv.oracles.base import make

        if isinstance(members, str | Mapping) or not isinstance(members, Sequence):
            raise UserError(f"members is {members!r}, expected a list of paths, or of settings with a path")
        shared = checks.mapping("common", common)
        loaded: list[UtilityOracle] = []
        for place, member in enumerate(members):
            own = {"path": member} if isinstance(member, str) else checks.mapping(f"members[{place}]", member)
            oracle = make("reward_model", **{**shared, **own})
            if not isinstance(oracle, UtilityOracle):
                raise UserError(
                    f"members[{place}] has settings of a wrapper, expected a plain reward model; disturb all"
                )
            loaded.append(oracle)
        return cls(loaded, weights=weights, annotator=annotator, seed=seed)

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> NDArray[np.float64]:
        """Compute P(first preferred), float64 [N]."""
        if not self._sampled:
            return np.clip(self.weights @ self.preferences(prompts, first, second), 0.0, 1.0)
        judges = self.judges(prompts, first, second)
        win = np.empty(len(judges))
        for number in np.unique(judges):
            rows = np.flatnonzero(judges == number)
            some = [[texts[row] for row in rows.tolist()] for texts in (prompts, first, second)]
            win[rows] = self._of(int(number), *some)
        return win

    def preferences(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Compute P(first preferred) by each member, float64 [M, N]."""
        return np.stack([self._of(number, prompts, first, second) for number in range(len(self.members))])

    def disagreement(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Compute the standard deviation of P(first preferred) over the weighted members, float64 [N]; at most 1/2."""
        each = self.preferences(prompts, first, second)
        mean = self.weights @ each
        return np.sqrt(self.weights @ (each - mean) ** 2)

    def judges(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> NDArray[np.int64]:
        """Draw the member that judges each pair under "sampled", int64 [N]."""
        uniform = [self._uniform(*three) for three in zip(prompts, first, second, strict=True)]
        bounds = np.cumsum(self.weights)
        bounds[-1] = 1.0
        return np.searchsorted(bounds, uniform, side="right").astype(np.int64)

    def _uniform(self, prompt: Any, first: str, second: str) -> float:
        told = json.dumps([self._seed, prompt, sorted((first, second))]).encode()
        # 53 bits: a float64 just below 1 would round to 1 with more.
        return (int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") >> 11) / 2**53

    def _of(
        self, number: int, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        try:
            return self.members[number].preference(prompts, first, second)
        except Unanswered as error:
            # What one member said is not what the population says; a server's scores are remembered by it.
            nothing = np.zeros(len(first))
            raise Unanswered(str(error), Preferences(nothing, nothing), nothing.astype(np.bool_)) from error
