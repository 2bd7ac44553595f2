"""Exact values of a language-model policy whose responses can all be listed; not for anything larger.

With a small vocabulary and short responses, every response y of a real transformers model can be scored. Then the
objective of alignment, J(pi) = E_pi[u] - beta KL(pi || ref), its optimum pi*(y) proportional to ref(y) exp(u(y) / beta)
with J* = beta log E_ref[exp(u / beta)] (Rafailov et al. 2023, arXiv 2305.18290, appendix A.1), and the regret
J* - J(pi) = beta KL(pi || pi*) are sums, not estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from duelenv.exact.responses import Responses, enumerate_responses
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle, finite_utility

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

Array = NDArray[np.float64]

#: By how much the log of a sum of probabilities may miss 0: more is no rounding.
_ROUNDING: Final = 0.01


def value(log_prob: Array, reference_log_prob: Array, utility: Array, beta: float) -> Array:
    """Return J(pi) = sum_y pi(y) [u(y) - beta (log pi(y) - log ref(y))], float64 [B], in units of utility.

    Args:
        log_prob: log pi of every response, [B, M], nats.
        reference_log_prob: log ref, [B, M].
        utility: u, [B, M].
        beta: Price of a nat of KL, above 0.
    """
    probability = np.exp(log_prob)
    return np.asarray((probability * (utility - beta * (log_prob - reference_log_prob))).sum(axis=1))


def optimum(reference_log_prob: Array, utility: Array, beta: float) -> tuple[Array, Array]:
    """Return J* [B] and log pi* [B, M], the Gibbs policy ref(y) exp(u(y) / beta) / Z."""
    tilted = reference_log_prob + utility / beta
    log_partition = logsumexp(tilted, axis=1)
    return np.asarray(beta * log_partition), np.asarray(tilted - log_partition[:, np.newaxis])


def divergence(log_prob: Array, reference_log_prob: Array) -> Array:
    """Return KL(pi || ref) [B] in nats, of log-probs [B, M]."""
    return np.asarray((np.exp(log_prob) * (log_prob - reference_log_prob)).sum(axis=1))


@dataclass(frozen=True)
class ExactFigures:
    """What a policy is worth on N prompts, exactly.

    Attributes:
        objective: J(pi), float64 [N], in units of utility.
        kl: KL(pi || ref), float64 [N], nats.
        kl_regret: J* - J(pi) = beta KL(pi || pi*), float64 [N], in units of utility.
        temperature_zero_regret: max_y u(y) - E_pi[u], float64 [N]: what is lost to the one best response,
            the `utility` regret of the policy's responses on average. A policy with a finite KL does not bring it to 0.
    """

    objective: Array
    kl: Array
    kl_regret: Array
    temperature_zero_regret: Array

    @classmethod
    def of(cls, log_prob: Array, reference_log_prob: Array, utility: Array, beta: float) -> ExactFigures:
        """Compute all of them; arguments as of `value`, rows normalised."""
        best, optimal = optimum(reference_log_prob, utility, beta)
        # As a divergence it is a sum of small terms; as J* - J(pi) a small difference of large ones.
        regret = beta * divergence(log_prob, optimal)
        kl = divergence(log_prob, reference_log_prob)
        expected = (np.exp(log_prob) * utility).sum(axis=1)
        return cls(best - regret, kl, regret, utility.max(axis=1) - expected)

    def notions(self) -> dict[str, Array]:
        """Return both regrets by the names that they have among a world's notions."""
        return {"kl": self.kl_regret, "temperature_zero": self.temperature_zero_regret}


class ExactObjective:
    """The alignment objective over prompts, against the policy's start model as the reference.

    Args:
        policy: Gives the start model, the vocabulary and the length; its current weights are judged.
        oracle: The utility.
        prompts: B prompts.
        beta: Price of a nat of KL, above 0.
        responses: All of the policy's, where they were listed already.

    Raises:
        UserError: Too many responses, a beta that is not positive, or a model whose probabilities do not sum to 1.
    """

    def __init__(
        self,
        policy: CausalLMPolicy,
        oracle: UtilityOracle,
        prompts: Sequence[str],
        beta: float,
        *,
        responses: Responses | None = None,
    ) -> None:
        self.beta = checks.number("beta", beta, above=0.0)
        self._policy = policy
        self._prompts = list(prompts)
        self.responses = enumerate_responses(policy) if responses is None else responses
        texts = list(self.responses.texts)
        self.utility: Array = np.stack([finite_utility(oracle, [prompt] * len(texts), texts) for prompt in prompts])
        self.reference_log_prob = self._score("start")
        self.optimum, self.optimal_log_prob = optimum(self.reference_log_prob, self.utility, self.beta)

    def log_prob(self) -> Array:
        """Return the current policy's log-prob of every response, float64 [B, M]."""
        return self._score("policy")

    def value(self) -> Array:
        """Return J of the current policy, float64 [B]."""
        return value(self.log_prob(), self.reference_log_prob, self.utility, self.beta)

    def regret(self) -> Array:
        """Return J* - J of the current policy, float64 [B]; never negative but for rounding."""
        return self.figures().kl_regret

    def figures(self) -> ExactFigures:
        """Return all that is known of the current policy, from one scoring of its responses."""
        return ExactFigures.of(self.log_prob(), self.reference_log_prob, self.utility, self.beta)

    def _score(self, source: Literal["policy", "start"]) -> Array:
        """Return log-probs [B, M], normalised: in single precision they sum to 1 up to some millionths."""
        tokens, mask = self.responses.tokens[np.newaxis], self.responses.mask[np.newaxis]
        rows = [self._policy.score([prompt], tokens, mask, source=source) for prompt in self._prompts]
        log_prob = np.concatenate(rows).astype(np.float64)
        total = logsumexp(log_prob, axis=1, keepdims=True)
        wrong = np.flatnonzero(~(np.abs(total[:, 0]) < _ROUNDING))
        if len(wrong):
            raise UserError(
                f"the probabilities of all {len(self.responses):,} responses to {self._prompts[wrong[0]][:60]!r} sum "
                f"to {np.exp(total[wrong[0], 0]):.4g}, expected 1; give a model in float32 that can say every token id"
            )
        return np.asarray(log_prob - total)
