"""RCDP-UCB: RCDB for late and corrupted labels, without post-serving context (Oh 2026, arXiv 2605.01752).

Rule. argmax_{i, j} theta_hat . (phi_i + phi_j) + beta |z_ij|, as in MaxPairUCB. A label enters the likelihood with
weight w = min(1, alpha / |z|_{W^-1}), where W = lambda I + sum z z' runs over every duel that was PLAYED, with its
label or yet without: weights then do not depend on when labels come, and rounds that wait for theirs are not played
again and again as if nothing were known of them.

A duel enters W when it is chosen, and the width of its weight is the one at the time its label comes, the duel itself
left out: within a W that holds it, no |z| exceeds 1 and no weight would ever fall. The paper also
predicts contexts that show up after the choice; the worlds here have none, and no such part is here.

Widths. beta |z| is under H^-1 of the labels that came, with beta = 2, or under W^-1 by `width="design"`, as in the
paper; the weights are under W^-1 in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.contextual.agent import ContextualAgent, EstimatorSettings, by_blocks, difference, taught
from duelenv.agents.contextual.design import Arms, DesignMatrix, WidthSettings, measure
from duelenv.agents.contextual.maxpairucb import maxpairucb_pair
from duelenv.agents.contextual.rcdb import RCDBSettings, uncertainty_weights
from duelenv.core import AgentView, Labels


class RCDP(ContextualAgent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        settings: Read for all of its settings.

    Attributes:
        played: W of the module.
    """

    def __init__(self, view: AgentView, seed: int, settings: SettingsReader) -> None:
        estimator, chosen = settings.take(EstimatorSettings), settings.take(WidthSettings)
        super().__init__(view, seed, "rcdp", estimator, "hessian")
        self.played = DesignMatrix(self.dim, view.replicates, estimator.prior_precision)
        self.alpha = settings.take(RCDBSettings).alpha
        self.beta = np.float32(chosen.beta)
        self._paper = chosen.width == "design"

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        geometry = measure(features, self.belief, self.played if self._paper else None, self._ties)
        first, second = by_blocks(lambda block: maxpairucb_pair(block, self.beta), geometry)
        z = difference(features[self._all_rows, first], features[self._all_rows, second])
        self.played.update(z, np.ones(len(z)))
        return first, second

    def _learn(self, first: NDArray[Any], second: NDArray[Any], labels: Labels) -> Metrics:
        within = self.played.square(difference(first, second))
        # Sherman-Morrison backwards: |z|^2 under W - z z', without the duel that W holds already.
        squares = within / np.maximum(1.0 - within, np.finfo(np.float64).tiny)
        return self.belief.update(first, second, labels, uncertainty_weights(squares, self.alpha))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"played": self.played.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.played.load_state_dict(state["played"])


@register("rcdp")
def rcdp(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the RCDP-UCB agent."""
    return taught(RCDP(view, seed, settings), seed, settings)
