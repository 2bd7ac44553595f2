"""CoLSTIM: a perturbed favourite against its most optimistic rival.

Bengs, Saha and Huellermeier 2022, arXiv 2202.04593.

Rule. i = argmax_i theta_hat . phi_i + eps_i |phi_i|, j = argmax_j theta_hat . z_ji + c |z_ji|. The eps are standard
Gumbel draws clipped to [-C, C], C = sqrt(d log T): the perturbed estimates imitate the feedback, whose logistic noise
is a difference of two Gumbels. With probability p_t = min(1, sqrt(d log(d T) / t)) all candidates of a row share one
eps, otherwise they have one each; this part of the paper is given from memory, as is its start with tau = d K random
duels, which are left out by default because the prior does their work.

phi is measured from the mean of the round's candidates. The paper's |phi_i| contains the part that all candidates
share, of which no duel between them tells anything: with fixed candidates the perturbation, and the regret, would never
end.

Widths. H^-1 by default, where eps and c = 2 count posterior deviations; V^-1 by `width="design"`, with c = C as in the
paper. Guarantee (V^-1). Weak regret of order sqrt(d T).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, taught
from duelenv.agents.contextual.design import MATRICES, Arms
from duelenv.agents.contextual.maxfirstucb import optimistic_rival
from duelenv.core import AgentView
from duelenv.ground import checks


@dataclass(frozen=True)
class ColstimSettings:
    """How far CoLSTIM explores.

    Attributes:
        width: "hessian" or "design"; see `WidthSettings`.
        beta: c, the rival's factor; None takes 2 with "hessian" and C with "design".
        random_rounds: tau, rounds of random duels at the start.
    """

    width: str = "hessian"
    beta: float | None = None
    random_rounds: int = 0

    def __post_init__(self) -> None:
        checks.one_of("width", self.width, MATRICES)
        if self.beta is not None:
            checks.number("beta", self.beta, low=0.0)
        checks.integer("random_rounds", self.random_rounds, low=0)


class Colstim(ContextualAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        estimator: Settings of the estimate.
        settings: How far it explores.
    """

    def __init__(self, view: AgentView, seed: int, estimator: EstimatorSettings, settings: ColstimSettings) -> None:
        super().__init__(view, seed, "colstim", estimator, settings.width)
        self.settings = settings
        rounds = max(view.horizon * view.batch, 2)
        self.threshold = np.float32(np.sqrt(self.dim * np.log(rounds)))
        self._log_term = self.dim * np.log(self.dim * rounds)
        beta = settings.beta
        if beta is None:
            beta = 2.0 if settings.width == "hessian" else float(self.threshold)
        self.beta = np.float32(beta)
        self.round = 0

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        self.round += 1
        num_arms = self.view.num_candidates
        # One draw shared or one each, in a single read: the last column says which.
        uniforms = self.streams.uniform(num_arms + 1, dtype=np.float32)
        if self.round <= self.settings.random_rounds:
            first, second = (uniforms[:, :2] * np.float32(num_arms)).astype(np.int64).T
            return first, second
        duels = (self.round - self.settings.random_rounds) * self.view.batch
        shared = uniforms[:, num_arms] < min(1.0, np.sqrt(self._log_term / duels))
        draws = np.where(shared[:, None], uniforms[:, :1], uniforms[:, :num_arms])
        tiny = np.float32(1e-30)  # a uniform may be 0
        eps = -np.log(tiny - np.log(draws + tiny))
        np.clip(eps, -self.threshold, self.threshold, out=eps)
        geometry = self.measure(features, centred=True)
        first = (geometry.mean + eps * geometry.own_widths()).argmax(axis=1)
        return first, optimistic_rival(geometry, first, self.beta)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"round": self.round}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.round = int(state["round"])


@register("colstim")
def colstim(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the CoLSTIM agent."""
    return taught(Colstim(view, seed, settings.take(EstimatorSettings), settings.take(ColstimSettings)), seed, settings)
