"""Whether a server gives the scores that a model at hand gives to the same texts, and if not, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle, finite_utility


@dataclass(frozen=True)
class Parity:
    """How a server's scores compare with a local model's.

    Attributes:
        verdict: `same`, `shifted`, `activation`, `sign`, `order`, `scale`, `ranking`, `different` or `unclear`.
        sentence: The same for people.
        server: The server's scores, float64 [N].
        local: The local model's, float64 [N].
    """

    verdict: str
    sentence: str
    server: NDArray[np.float64]
    local: NDArray[np.float64]

    @property
    def fine(self) -> bool:
        """Whether preferences are the same either way."""
        return self.verdict in ("same", "shifted")


def parity(
    server: UtilityOracle,
    local: UtilityOracle,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    tolerance: float = 0.05,
) -> Parity:
    """Compare the scores of two responses or more.

    Two tell whether an activation was left on, the sign is turned or answers are taken in another order; three, whether
    the scale differs. Texts on which the local scores are far apart tell most.

    Args:
        server: Usually a `RewardServer`.
        local: Usually a `RewardModel`.
        prompts: N prompts.
        responses: N responses, at least 2 of them different.
        tolerance: Largest difference that counts as rounding, relative to 1 + |local|; half precision needs some.

    Raises:
        UserError: There are fewer than two texts, or either side refuses.
    """
    checks.number("tolerance", tolerance, above=0.0)
    if len(responses) < 2 or len(prompts) != len(responses):
        raise UserError(f"parity is of {len(prompts)} prompts and {len(responses)} responses, expected two or more")
    theirs, ours = finite_utility(server, prompts, responses), finite_utility(local, prompts, responses)
    verdict, sentence = _verdict(theirs, ours, tolerance)
    return Parity(verdict, sentence, theirs, ours)


def _verdict(theirs: NDArray[np.float64], ours: NDArray[np.float64], tolerance: float) -> tuple[str, str]:
    error = {
        "same": _distance(theirs, ours),
        "activation": _distance(theirs, special.expit(ours)),
        "sign": _distance(theirs, -ours),
        "order": _distance(np.sort(theirs), np.sort(ours)),
        "shifted": _distance(theirs - theirs.mean(), ours - ours.mean()),
    }
    # Sorted scores are equal too where nothing is swapped: "same" comes first, and "shifted", which has a free number,
    # last. An explanation counts if it is right to rounding, and the first one that is about as good as any.
    best = min(error.values())
    if np.ptp(ours) < 4.0 * tolerance * (1.0 + np.abs(ours).max()):
        return "unclear", (
            f"the local scores differ by {np.ptp(ours):.3g} only, too little to compare by; give texts that are "
            "further apart"
        )
    if best <= tolerance:
        name = next(name for name, value in error.items() if value <= max(2.0 * best, tolerance / 10.0))
        return name, _SENTENCES[name].format(shift=float(theirs.mean() - ours.mean()))
    return _unexplained(theirs, ours, tolerance)


def _unexplained(theirs: NDArray[np.float64], ours: NDArray[np.float64], tolerance: float) -> tuple[str, str]:
    slope, intercept = np.polyfit(ours, theirs, 1)
    if len(ours) > 2 and slope != 0.0 and _distance((theirs - intercept) / slope, ours) <= tolerance:
        return "scale", (
            f"the server's scores are {slope:.4g} times the local ones plus {intercept:.4g}: a temperature of "
            f"{1.0 / slope:.4g} too much, or scores that are normalised on one side"
        )
    worst = int(np.argmax(np.abs(theirs - ours)))
    where = f"by up to {abs(theirs[worst] - ours[worst]):.3g} (text {worst}: {theirs[worst]:.4g} for {ours[worst]:.4g})"
    if (np.argsort(theirs, kind="stable") == np.argsort(ours, kind="stable")).all():
        return "ranking", (
            f"scores differ {where} in the same order: compare the text template, the special tokens, the truncation "
            "and the precision of both"
        )
    return "different", (
        f"scores differ {where} in another order: compare the models, the text template and the special tokens of both"
    )


def _distance(values: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float((np.abs(values - expected) / (1.0 + np.abs(expected))).max())


_SENTENCES = {
    "same": "server and local model agree in scale, sign and order",
    "activation": "the server answers the sigmoid of the local scores: its activation was left on; ask for raw scores, "
    "or set scale to probability",
    "sign": "the server's scores are the local ones with the sign turned: it prefers what the local model does not; "
    "change the label",
    "order": "the server's scores are the local ones in another order: answers are matched with the wrong texts",
    "shifted": "the server's scores are the local ones plus {shift:.4g}, which no preference sees",
}
