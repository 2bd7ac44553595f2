"""SELM (arXiv 2405.19332): optimism in the loss, not in the choice of pairs.

The preference loss gets the bonus alpha beta E_{y ~ ref}[log pi(y|x) - log ref(y|x)], which pushes the policy away from
what the reference already says. A wrong guess is corrected only if responses of the reference keep duelling, so every
duel sets a response of the policy against one of the reference.

The bonus pulls with 2 alpha of the loss's strength at the start: 0.2 % at the published alpha of 1e-3. The figure
`bonus_gradient_ratio` in the metrics says how strong it is.

The bonus is taken over one draw of the reference beside each duel, the duel's own wherever that is without bias, so
that it needs no pass of its own: see `duelenv.agents.reference_draws` and the setting `bonus_draws`.

In worlds of features the policy is a softmax over the candidates shown, and the reference is uniform over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.composed import ComposedAgent
from duelenv.agents.parts import compose
from duelenv.agents.schooling import Schooling
from duelenv.agents.selection import categorical, random_order, rivals
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams


@dataclass(frozen=True)
class SelmSettings:
    """Strength of optimism.

    Attributes:
        alpha: Of the bonus, at least 0; published 1e-4 to 1e-3. At 0 the agent is online DPO against the reference.
    """

    alpha: float = 1e-3

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, low=0.0)


@dataclass(frozen=True)
class LogLinearSettings:
    """The softmax policy of worlds of features.

    Attributes:
        beta: Strength of its KL penalty, above 0; smaller is greedier.
        prior_precision: Of the Gaussian prior on its weights.
    """

    beta: float = 0.1
    prior_precision: float = 1.0

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, above=0.0)


@register("selm")
def selm(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the SELM agent.

    Raises:
        UserError: The world has a policy model but no candidates of it or of its reference.
    """
    alpha = settings.take(SelmSettings).alpha
    if view.policy is None:
        return _on_features(view, seed, settings, alpha)
    settings.prefer(bonus="selm", bonus_settings={"alpha": alpha})
    return compose(view, seed, settings, name="selm", ask="against_reference")


def _on_features(view: AgentView, seed: int, settings: SettingsReader, alpha: float) -> Agent:
    from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
    from duelenv.agents.log_linear import LogLinearPolicy

    streams = RowStreams(seed, "agents/selm", view.num_envs)
    chosen = settings.take(LogLinearSettings)
    shape = view.observation_space["features"].shape
    assert shape is not None
    estimate = LinearLogistic(
        shape[-1],
        replicates=view.replicates,
        batch=view.batch,
        root=seed,
        settings=LinearLogisticSettings(prior_precision=chosen.prior_precision),
    )
    learner = LogLinearPolicy(estimate, beta=chosen.beta, alpha=alpha)
    size = view.num_candidates

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        own = categorical(learner.probabilities(observation), streams)
        others = np.ones((view.num_envs, size)) if groups is None else rivals(own, size, groups).astype(float)
        return random_order(np.stack([own, categorical(others, streams)], axis=1), streams)

    return ComposedAgent(view, select=select, schooling=Schooling(view, learner), streams={"select": streams})
