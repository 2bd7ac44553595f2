"""What the regret of a live policy's responses is measured against; it never depends on the policy that learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.randomness import stream
from duelenv.oracles.base import UtilityOracle, finite_utility
from duelenv.worlds.alignment_duel.candidates import Strings

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

NUM_RESPONSES = 64
"""Responses of the start policy whose best one stands for the unknown maximum."""


class Comparator:
    """A utility, and for each prompt the value that regret is measured against.

    That is the largest utility of any response where it is known, and otherwise that of the best of 64 responses of the
    start policy, drawn once.

    Args:
        truth: The utility.
        policy: The live policy, which keeps the start policy.
        temperature: Sampling temperature of the 64; None takes the policy's own.
    """

    def __init__(self, truth: UtilityOracle, policy: CausalLMPolicy, temperature: float | None) -> None:
        self.truth = truth
        self._policy = policy
        self._temperature = temperature
        self._root: int
        self._best: dict[str, float] = {}

    def redraw(self, root: int) -> None:
        """Forget what was drawn; the next responses come from the streams of `root`."""
        self._root = root
        self._best.clear()

    def utility(self, prompts: Strings, responses: Strings) -> NDArray[np.float64]:
        """Return the utility of responses [N, M] to prompts [N], float64 [N, M]."""
        repeated = np.repeat(prompts, responses.shape[1])
        return finite_utility(self.truth, list(repeated), list(responses.ravel())).reshape(responses.shape)

    def best(self, prompts: Strings) -> NDArray[np.float64]:
        """Return the utility to compare with for each prompt, float64 [N]."""
        known = self.truth.maximum(list(prompts))
        if known is not None:
            return known
        missing = sorted(set(prompts) - self._best.keys())
        if missing:
            shape = (NUM_RESPONSES, self._policy.max_new_tokens)
            # By prompt and not by the order of meeting them, so that agents share one comparator.
            purposes = [f"comparator/{prompt}" for prompt in missing]
            uniforms = np.stack([stream(self._root, purpose).random(shape) for purpose in purposes])
            drawn = self._policy.sample(
                missing, NUM_RESPONSES, uniforms=uniforms, source="start", temperature=self._temperature
            )
            best = self.utility(np.array(missing, dtype=object), drawn.texts).max(axis=1)
            self._best |= dict(zip(missing, best.tolist(), strict=True))
        return np.array([self._best[prompt] for prompt in prompts])
