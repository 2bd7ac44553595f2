"""Bonuses whose pull fades as a response becomes improbable: SE-POPO, and the family of GEB.

The linear ones pull with the same strength however far a response has fallen, and without bound; only duels stop them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from torch import Tensor
from torch.nn.functional import logsigmoid

from duelenv.agents.bonuses.base import Bonus, mean, same_shape
from duelenv.ground.checks import number, one_of


@dataclasses.dataclass(frozen=True)
class SEPOPO(Bonus):
    """alpha E_{y ~ ref}[sigma(beta h(y)) - 1/2] / beta, h = log pi - log ref (SE-POPO, arXiv 2502.00666).

    The chance that y wins against a response of log-ratio 0 is pushed down, for y of the sampler that the learner duels
    against: the reference, or a moved one. Never of the winner, nor of the policy that explores. The form is derived
    and not compared with the paper's code. What was checked: at h = 0 it pulls with alpha / (2 beta) of DPO's strength;
    as beta falls to 0 it is a quarter of XPO's bonus with the same alpha; it is bounded by alpha / (2 beta).

    Attributes:
        alpha: Strength of optimism, at least 0.
        beta: The beta of the DPO loss it stands beside, above 0.
    """

    alpha: float = 1e-3
    beta: float = 0.1

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)
        number("beta", self.beta, above=0.0)

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, novelty: Tensor | None = None) -> Tensor:
        """See `Bonus`."""
        log_ratio = log_prob - same_shape(log_prob, reference_log_prob)
        return self.alpha / self.beta * mean((self.beta * log_ratio).sigmoid() - 0.5)


#: u f'(u) - f(u) up to a constant, for log u, of the generators f with f''(1) = 1: -log u, 4 (1 - sqrt u), u log u.
_GAINS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "forward_kl": lambda log_u: log_u,
    "hellinger": lambda log_u: 2.0 * (0.5 * log_u).exp(),
    "reverse_kl": lambda log_u: log_u.exp(),
}
_ATOMS: Final = ("complement", "inverse")
_PROBABILITIES: Final = ("relative", "absolute")


@dataclasses.dataclass(frozen=True)
class GEB(Bonus):
    """-alpha beta E_{y ~ ref}[u f'(u) - f(u)], u falling in pi(y): GEB (Li, Oh and Li 2025, arXiv 2510.03269).

    The bonus max_pi {E_pi[r] - beta D_f(pi || ref)} that the reward of a policy implies is, with u = pi / ref, the same
    expectation and pushes towards what the reference says: its derivative by pi rises with ref, where optimism asks
    that it falls (their definition 3.1). With a u that falls in pi it does fall. f is -log u for "forward_kl",
    4 (1 - sqrt u) for "hellinger" and u log u for "reverse_kl", whose gains u f'(u) - f(u) are log u, 2 sqrt u and u.

    The form is taken from summaries of the paper, with u = 1 / p ("inverse") or 1 + offset - p ("complement"). What p
    is for a whole response is this project's choice: pi itself ("absolute") is of the order of e^-20, where 1 - p has
    no gradient and 1 / p is e^20; so by default p = pi / (pi + ref) ("relative"), which is sigma(log pi - log ref).
    What was checked: the mixed derivative by pi and ref is not above 0 for all of them; "forward_kl", "inverse",
    "absolute" is XPO's bonus with its alpha = alpha beta, SELM's up to a constant; "reverse_kl", "complement",
    "relative" is SE-POPO's with beta = 1, up to a constant, and pulls with alpha / 2 of DPO's strength at the start.

    Attributes:
        alpha: Strength of optimism, at least 0; the paper's kappa.
        beta: The beta of the DPO loss it stands beside, above 0.
        divergence: "reverse_kl", that of KL(pi || ref), "forward_kl" or "hellinger".
        atom: "complement", bounded; or "inverse", which grows without bound as a response becomes improbable.
        probability: "relative" or "absolute".
        offset: At least 0, of "complement".
    """

    alpha: float = 1e-3
    beta: float = 0.1
    divergence: str = "reverse_kl"
    atom: str = "complement"
    probability: str = "relative"
    offset: float = 0.0

    def __post_init__(self) -> None:
        number("alpha", self.alpha, low=0.0)
        number("beta", self.beta, above=0.0)
        one_of("divergence", self.divergence, _GAINS)
        one_of("atom", self.atom, _ATOMS)
        one_of("probability", self.probability, _PROBABILITIES)
        number("offset", self.offset, low=0.0)

    def __call__(self, log_prob: Tensor, reference_log_prob: Tensor | None, novelty: Tensor | None = None) -> Tensor:
        """See `Bonus`."""
        reference = same_shape(log_prob, reference_log_prob)
        relative = self.probability == "relative"
        log_p = logsigmoid(log_prob - reference) if relative else log_prob
        if self.atom == "inverse":
            log_u = -log_p
        elif relative and self.offset == 0.0:
            log_u = logsigmoid(reference - log_prob)  # 1 - p without a difference of nearly equal numbers
        else:
            log_u = (1.0 + self.offset - log_p.exp()).log()
        return -self.alpha * self.beta * mean(_GAINS[self.divergence](log_u))
