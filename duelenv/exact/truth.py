"""What a world knows of a live policy whose responses can all be listed: each prompt scored once for every version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from duelenv.exact.objective import Array, ExactFigures, ExactObjective
from duelenv.exact.responses import enumerate_responses
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy


class ExactTruth:
    """The exact figures of a live policy on whatever prompts come.

    Args:
        policy: The live policy, whose start is the reference.
        truth: The utility; None where the oracle has none, which is refused.
        beta: Price of a nat of KL, above 0.
        temperature: At which the world samples; None for the policy's own.

    Raises:
        UserError: No utility, a beta out of range, a policy that is not sampled as it is scored, or too many responses.
    """

    def __init__(
        self, policy: CausalLMPolicy, truth: UtilityOracle | None, beta: float, temperature: float | None
    ) -> None:
        self.beta = checks.number("exact_beta", beta, above=0.0)
        if truth is None:
            raise UserError(
                f"exact_beta={beta:g} asks for exact regret, and the oracle has no utility; choose one that has, such "
                "as 'good_words', or leave exact_beta out"
            )
        sampled_at = policy.temperature if temperature is None else temperature
        if sampled_at != 1.0:
            raise UserError(
                f"exact_beta={beta:g} judges the policy at temperature 1, and this world samples at {sampled_at:g}; "
                "set temperature=1, or leave exact_beta out"
            )
        self._policy = policy
        self._truth = truth
        self.check_sampler()
        self._responses = enumerate_responses(policy)
        self._objectives: dict[str, ExactObjective] = {}
        self._known: dict[str, ExactFigures] = {}
        self._judged: tuple[object, int] | None = None  # history and version of the policy that `_known` is of

    def check_sampler(self) -> None:
        """Refuse a sampler that draws candidates in place of the policy's own loop: it may follow another law.

        Raises:
            UserError: There is one.
        """
        if self._policy.sampler is not None:
            raise UserError(
                f"exact_beta={self.beta:g} judges the policy's own law, and {type(self._policy.sampler).__name__} "
                "draws in its place, perhaps with other weights; leave sampler or exact_beta out"
            )

    def figures(self, prompts: Sequence[str]) -> ExactFigures:
        """Return the figures of the policy as it stands, a number for each of N prompts."""
        now = self._policy.history, self._policy.version
        if self._judged is None or self._judged[0] is not now[0] or self._judged[1] != now[1]:
            self._known.clear()
            self._judged = now
        each = [self._of(prompt) for prompt in prompts]

        def column(name: str) -> Array:
            return np.concatenate([getattr(one, name) for one in each])

        return ExactFigures(*(column(name) for name in ExactFigures.__dataclass_fields__))

    def _of(self, prompt: str) -> ExactFigures:
        if prompt not in self._known:
            if prompt not in self._objectives:
                self._objectives[prompt] = ExactObjective(
                    self._policy, self._truth, [prompt], self.beta, responses=self._responses
                )
            self._known[prompt] = self._objectives[prompt].figures()
        return self._known[prompt]
