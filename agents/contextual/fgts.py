"""FGTS.CDB: feel-good Thompson sampling with a Langevin sampler (Li, Zhao and Gu 2024, arXiv 2404.06013).

Rule. The two candidates of a duel are the favourites of two independent draws theta^1, theta^2, j = 1, 2, from
densities proportional to exp(-sum_s L_s^j(theta)) times the prior, with

    L_s^j = eta log(1 + exp(-y_s theta . z_s)) - mu max_a theta . (phi_sa - phi_{s, a^(3-j)}),

y in {-1, +1}. The second term feels good: it favours parameters under which something better than the other candidate
was on offer.

Sampler. The likelihood and the prior are taken as their Gaussian, eta (theta - theta_hat)' H (theta - theta_hat) / 2;
the feel-good sum over the past is estimated from a few contexts of the last `memory` rounds, scaled up. A Langevin step
is preconditioned with H^-1 = C C' and integrates the Gaussian part exactly over the time h,

    theta <- theta_hat + r (theta - theta_hat) + (1 - r) H^-1 g / eta + sqrt((1 - r^2) / eta) C xi, r = exp(-h eta / 2),

g the feel-good gradient: no step is too long, and every direction is forgotten at the same rate. Time per round and
memory do not grow with the round. The chains go on from round to round.

Settings. The theory asks for eta = 1/4 and mu = 1 / (10 e^S sqrt T) for |theta*| <= S; eta = 1 is the posterior itself.
Guarantee. Regret of order d sqrt T up to logarithms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, taught
from duelenv.agents.contextual.design import Arms, Float64
from duelenv.core import AgentView
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams


@dataclass(frozen=True)
class FGTSSettings:
    """The density and its sampler.

    Attributes:
        eta: Weight of the likelihood, positive.
        mu: Weight of the feel-good term, not negative; None takes 1 / (10 e sqrt T).
        langevin_steps: Steps of each chain per round.
        step_time: h, positive; with eta = 1 a chain forgets half of where it was in h = 1.4.
        memory: Rounds whose contexts are kept for the feel-good term.
        minibatch: How many of them are looked at in a round.
    """

    eta: float = 1.0
    mu: float | None = None
    langevin_steps: int = 1
    step_time: float = 3.0
    memory: int = 64
    minibatch: int = 4

    def __post_init__(self) -> None:
        for name in ("eta", "step_time"):
            checks.number(name, getattr(self, name), above=0.0)
        if self.mu is not None:
            checks.number("mu", self.mu, low=0.0)
        for name in ("langevin_steps", "memory", "minibatch"):
            checks.integer(name, getattr(self, name), low=1)


class FGTS(ContextualAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        estimator: Settings of the estimate.
        settings: The density and its sampler.

    Attributes:
        chains: theta^1 and theta^2 of every row, float64 [N, 2, d].
    """

    def __init__(self, view: AgentView, seed: int, estimator: EstimatorSettings, settings: FGTSSettings) -> None:
        super().__init__(view, seed, "fgts", estimator, "hessian")
        self.settings = settings
        theory = 0.1 / (np.e * np.sqrt(view.horizon * view.batch))
        self.mu: float = theory if settings.mu is None else settings.mu
        self._replay = RowStreams(seed, "agents/fgts/replay", view.replicates)
        # At the prior, so that the first round is a draw from it.
        draws = RowStreams(seed, "agents/fgts/start", view.num_envs).normal(2, self.dim)
        self.chains: Float64 = draws / np.sqrt(settings.eta * estimator.prior_precision)
        self.round = 0
        slots = settings.memory * view.batch
        self._contexts = np.zeros((view.replicates, slots, view.num_candidates, self.dim), np.float32)
        self._pairs = np.zeros((view.replicates, slots, 2, self.dim), np.float32)  # the duel of each context

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        self._move()
        phi = np.asarray(features, np.float32)
        utilities = phi @ self.chains.astype(np.float32).swapaxes(1, 2)  # (N, K, 2)
        utilities += self._ties[:, :, None]
        first, second = utilities.argmax(axis=1).T
        self._remember(phi, first, second)
        return first, second

    def _move(self) -> None:
        """Take the Langevin steps of a round."""
        settings, replicates = self.settings, self.view.replicates
        root = self.belief.root_covariance
        centre = self.belief.theta[:, None]
        noise = self.streams.normal(settings.langevin_steps, 2, self.dim)
        noise = noise.reshape(replicates, -1, settings.langevin_steps, 2, self.dim)
        forget = np.exp(-0.5 * settings.step_time * settings.eta)
        spread = np.sqrt((1.0 - forget**2) / settings.eta)
        chains = self.chains.reshape(replicates, -1, self.dim)  # (R, 2 B, d), the two of a row adjacent
        recalled = self._recall() if self.mu and self.round else None
        for step in range(settings.langevin_steps):
            push = spread * noise[:, :, step].reshape(chains.shape)
            if recalled is not None:
                drift = (1.0 - forget) / settings.eta
                push = push + drift * (self._feel_good_gradient(chains, *recalled) @ root)
            chains = centre + forget * (chains - centre) + push @ root.swapaxes(1, 2)
        self.chains = chains.reshape(self.chains.shape)

    def _recall(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw contexts of the past: candidates [R, m, K, d] and the two that met [R, m, 2, d]."""
        filled = min(self.round, self.settings.memory) * self.view.batch
        slots = (self._replay.uniform(self.settings.minibatch) * filled).astype(np.int64)
        replicates = np.arange(self.view.replicates)[:, None]
        return self._contexts[replicates, slots], self._pairs[replicates, slots]

    def _feel_good_gradient(
        self, chains: Float64, contexts: NDArray[np.float32], pairs: NDArray[np.float32]
    ) -> Float64:
        """Return mu sum_s [phi_{s, best of theta} - phi_{s, other}] for chains [R, 2 B, d], estimated from a few s."""
        replicates, few, arms, dim = contexts.shape
        flat = contexts.reshape(replicates, few * arms, dim)
        utilities = flat @ chains.astype(np.float32).swapaxes(1, 2)  # (R, m K, 2 B)
        best = utilities.reshape(replicates, few, arms, -1).argmax(axis=2)  # (R, m, 2 B)
        best += arms * np.arange(few)[:, None]
        favourites = flat[np.arange(replicates)[:, None, None], best].sum(axis=1)  # (R, 2 B, d)
        others = pairs.sum(axis=1)[:, ::-1]  # (R, 2, d): chain 1 looks at the second candidate, chain 2 at the first
        others = np.tile(others, (1, chains.shape[1] // 2, 1))
        scale = self.mu * self.round * self.view.batch / few
        gradient: Float64 = scale * (favourites - others).astype(np.float64)
        return gradient

    def _remember(self, features: NDArray[np.float32], first: Arms, second: Arms) -> None:
        """Keep the round's contexts and duels: when they are chosen, because labels may come late or never."""
        replicates, batch = self.view.replicates, self.view.batch
        start = self.round % self.settings.memory * batch
        place = slice(start, start + batch)
        self._contexts[:, place] = features.reshape(replicates, batch, *features.shape[1:])
        for member, arms in enumerate((first, second)):
            self._pairs[:, place, member] = features[self._all_rows, arms].reshape(replicates, batch, -1)
        self.round += 1

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "round": self.round,
            "chains": self.chains.copy(),
            "replay": self._replay.state_dict(),
            "contexts": self._contexts.copy(),
            "pairs": self._pairs.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.round = int(state["round"])
        self.chains = np.array(state["chains"], np.float64)
        self._replay.load_state_dict(state["replay"])
        self._contexts[...] = state["contexts"]
        self._pairs[...] = state["pairs"]


@register("fgts")
def fgts(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the FGTS.CDB agent."""
    return taught(FGTS(view, seed, settings.take(EstimatorSettings), settings.take(FGTSSettings)), seed, settings)
