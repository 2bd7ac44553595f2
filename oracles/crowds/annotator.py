"""One simulated annotator: from utilities to what they say. Not for who is asked, nor for how votes are counted.

The settings are those of B-Pref's SimTeacher (Lee et al. 2021, arXiv 2111.03026, section 3) under their names, and
three that it lacks: lapses, a position bias and a price.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences, UtilityOracle, finite_utility

_SPOKEN: Final = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """What is particular to one annotator.

    In this order: the utilities of both responses, as this annotator weighs them; `skip`; `gamma`; `beta` and
    `position_bias`, which make a probability; `mistake`; `equal`; `lapse`.

    Attributes:
        name: For people.
        weights: How much each of the crowd's utilities counts, by its name; their weighted sum is what is preferred by.
        beta: Rationality: P(first) = sigma(beta (u_first - u_second)). 0 is a coin, `inf` always takes the better.
            (B-Pref's code writes -1 for that.)
        gamma: Myopia: a word t of H counts gamma^(H - t), so that the end of a response counts most; 1 for all alike.
            A word's reward is what it adds to the utility of the text before it, so that they sum up to the response's
            utility; that takes the utility of every beginning, one a word.
        mistake: Probability of a slip of the hand, which swaps a decided answer (eps of B-Pref).
        skip: Declines where the better of the two responses is worth less than this, in units of utility. None never.
        equal: Declares a tie where the two are worth the same to within this, in units of utility.
        lapse: Probability of answering without looking: first or second, a half each. What is skipped stays skipped.
        position_bias: Logits for the response shown first, whatever it says.
        price: Money for each answer; one that declines is paid too.

    B-Pref scales both thresholds by the average return of the policy so far (its equation of delta_adapt), which an
    oracle does not see; here they are absolute. As in its code, `skip` and `equal` look at whole utilities, `gamma` or
    not.
    """

    name: str = "annotator"
    weights: Mapping[str, float] = field(default_factory=dict)
    beta: float = 1.0
    gamma: float = 1.0
    mistake: float = 0.0
    skip: float | None = None
    equal: float = 0.0
    lapse: float = 0.0
    position_bias: float = 0.0
    price: float = 0.0

    def __post_init__(self) -> None:
        checks.text("annotator name", self.name)
        weights = {key: checks.number(f"weight of {key!r}", value) for key, value in self.weights.items()}
        object.__setattr__(self, "weights", weights)
        if self.beta == -1:
            raise UserError("beta is -1, perfectly rational in B-Pref's code, expected inf for that; change it")
        if self.beta != math.inf:
            object.__setattr__(self, "beta", checks.number("beta", self.beta, low=0.0))
        for name in ("gamma", "mistake", "lapse"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name), low=0.0, high=1.0))
        for name in ("equal", "price"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name), low=0.0))
        object.__setattr__(self, "position_bias", checks.number("position_bias", self.position_bias))
        if self.skip is not None:
            object.__setattr__(self, "skip", checks.number("skip", self.skip))

    @property
    def ability(self) -> float:
        """Probability of saying what they mean: neither a lapse nor a mistake, or a lapse that is right by luck."""
        return (1.0 - self.lapse) * (1.0 - self.mistake) + self.lapse / 2.0

    def answer(
        self,
        utilities: Mapping[str, UtilityOracle],
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
    ) -> Preferences:
        """Answer N duels; NaN where they skip.

        Args:
            utilities: The crowd's, by name.
            prompts: N prompts.
            first: N responses shown first.
            second: N responses shown second.
        """
        both = [*prompts, *prompts], [*first, *second]
        mine, other = np.split(self._weigh(utilities, *both), 2)
        seen = mine - other
        if self.gamma < 1.0:
            late, rival = np.split(self._weigh_myopically(utilities, *both), 2)
            seen = late - rival
        win = self._decided(seen)
        tie = (np.abs(mine - other) < self.equal).astype(np.float64)
        win = (1.0 - self.lapse) * win * (1.0 - tie) + self.lapse / 2.0
        if self.skip is not None:
            win = np.where(np.maximum(mine, other) < self.skip, np.nan, win)
        return Preferences(win, np.where(np.isnan(win), 0.0, (1.0 - self.lapse) * tie))

    def _decided(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute P(first) with the slip of the hand, before ties and lapses."""
        # Without this, inf * 0 is NaN: to the perfectly rational, equals are equals.
        logits = np.where(difference == 0.0, 0.0, difference) * (self.beta if self.beta != math.inf else 1.0)
        if self.beta == math.inf:
            logits = np.where(logits == 0.0, 0.0, np.copysign(np.inf, logits))
        win = special.expit(logits + self.position_bias)
        swapped = special.expit(-logits - self.position_bias)
        decided: NDArray[np.float64] = (1.0 - self.mistake) * win + self.mistake * swapped
        return decided

    def _weigh(
        self, utilities: Mapping[str, UtilityOracle], prompts: Sequence[str], responses: Sequence[str]
    ) -> NDArray[np.float64]:
        total = np.zeros(len(responses))
        for name, weight in self.weights.items():
            if weight:
                total += weight * finite_utility(utilities[name], prompts, responses)
        return total

    def _weigh_myopically(
        self, utilities: Mapping[str, UtilityOracle], prompts: Sequence[str], responses: Sequence[str]
    ) -> NDArray[np.float64]:
        """Sum over words of gamma^(H - t) times what word t adds."""
        beginnings = [_beginnings(response) for response in responses]
        asked = [prompt for prompt, texts in zip(prompts, beginnings, strict=True) for _ in texts]
        values = self._weigh(utilities, asked, [text for texts in beginnings for text in texts])
        ends = np.cumsum([len(texts) for texts in beginnings])
        return np.array([self._discounted(own) for own in np.split(values, ends[:-1])], np.float64)

    def _discounted(self, values: NDArray[np.float64]) -> float:
        """Discount the utilities of a text's beginnings, the empty one first, as far as H words."""
        rewards = np.diff(values)
        return float((self.gamma ** np.arange(len(rewards))[::-1] * rewards).sum())


def _beginnings(text: str) -> list[str]:
    """Cut a text at the end of word t = 0 ... H; the last is all of it, with what stands after its last word."""
    ends = [found.end() for found in _SPOKEN.finditer(text)]
    return ["", *(text[:end] for end in ends[:-1]), *([text] if ends else [])]
