"""Exact values of a language-model policy whose responses can all be listed; not for anything larger.

With a small vocabulary and short responses, every response y of a real transformers model can be scored. Then the
objective of alignment, J(pi) = E_pi[u] - beta KL(pi || ref), its optimum pi*(y) proportional to ref(y) exp(u(y) / beta)
with J* = beta log E_ref[exp(u / beta)] (Rafailov et al. 2023, arXiv 2305.18290, appendix A.1), and the regret
J* - J(pi) = beta KL(pi || pi*) are sums, not estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

MOST_RESPONSES = 200_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Responses:
    """All M responses of at most L tokens, in order of their tokens.

    Attributes:
        tokens: int64 [M, L].
        mask: int8 [M, L], 1 on the response's tokens.
        texts: object [M].
    """

    tokens: NDArray[np.int64]
    mask: NDArray[np.int8]
    texts: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.texts)


def count_responses(vocabulary_size: int, num_ends: int, max_new_tokens: int) -> int:
    """Return how many responses there are: those ended by one of `num_ends` tokens, and those cut at the length."""
    going_on = vocabulary_size - num_ends
    return sum(going_on**length * num_ends for length in range(max_new_tokens)) + going_on**max_new_tokens


def enumerate_responses(policy: CausalLMPolicy) -> Responses:
    """List every response that the policy can give; their probabilities given a prompt sum to 1.

    Raises:
        UserError: There are more than 200,000.
    """
    length, vocabulary, ends = policy.max_new_tokens, policy.vocabulary_size, policy.end_ids
    count = count_responses(vocabulary, len(ends), length)
    if count > MOST_RESPONSES:
        raise UserError(
            f"{count:.3g} responses of up to {length} tokens from a vocabulary of {vocabulary} cannot be listed, "
            f"at most {MOST_RESPONSES:,} can; lower max_new_tokens or build a model with a smaller vocabulary"
        )
    going_on = np.setdiff1d(np.arange(vocabulary), ends)
    prefixes = np.zeros((1, 0), np.int64)
    listed: list[NDArray[np.int64]] = []
    for position in range(length):
        last = position == length - 1
        following = np.arange(vocabulary) if last else np.array(ends, np.int64)
        listed.append(_extend(prefixes, following))
        prefixes = _extend(prefixes, going_on)
    tokens = np.full((count, length), ends[0] if ends else 0, np.int64)
    mask = np.zeros((count, length), np.int8)
    start = 0
    for block in listed:
        stop = start + len(block)
        tokens[start:stop, : block.shape[1]] = block
        mask[start:stop, : block.shape[1]] = 1
        start = stop
    return Responses(tokens, mask, policy.decode(tokens, mask))


def _extend(prefixes: NDArray[np.int64], following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return every prefix [P, l] followed by every token [F], as [P * F, l + 1]."""
    repeated = np.repeat(prefixes, len(following), axis=0)
    return np.column_stack([repeated, np.tile(following, len(prefixes))])


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


class ExactObjective:
    """The alignment objective over prompts, against the policy's start model as the reference.

    Args:
        policy: Gives the start model, the vocabulary and the length; `regret` judges its current weights.
        oracle: The utility.
        prompts: B prompts.
        beta: Price of a nat of KL, above 0.

    Raises:
        UserError: Too many responses, or a beta that is not positive.
    """

    def __init__(self, policy: CausalLMPolicy, oracle: UtilityOracle, prompts: Sequence[str], beta: float) -> None:
        self.beta = checks.number("beta", beta, above=0.0)
        self._policy = policy
        self._prompts = list(prompts)
        self.responses = enumerate_responses(policy)
        texts = list(self.responses.texts)
        self.utility: Array = np.stack([oracle.utility([prompt] * len(texts), texts) for prompt in prompts])
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
        return self.optimum - self.value()

    def _score(self, source: str) -> Array:
        tokens, mask = self.responses.tokens[np.newaxis], self.responses.mask[np.newaxis]
        rows = [
            self._policy.score([prompt], tokens, mask, source="start" if source == "start" else "policy")
            for prompt in self._prompts
        ]
        return np.concatenate(rows).astype(np.float64)
