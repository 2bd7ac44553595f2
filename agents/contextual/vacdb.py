"""VACDB: variance-aware elimination through layers (Di et al. 2023, arXiv 2310.00968, Algorithm 1).

Rule. All candidates enter layer 1. In layer l, with its theta, Sigma and radius beta_l (see `layers`):

1. if every pair of its candidates has a width of at most alpha, play argmax theta . (phi_i + phi_j) + beta_l |z_ij|;
2. else, if every width is at most 2^-l, keep {i : theta . phi_i >= max_j theta . phi_j - 2^-l beta_l} for layer l + 1;
3. else duel the widest pair, which teaches layer l.

alpha = 2^-L, so that layer L never passes candidates on. The paper duels any pair wider than 2^-l in step 3; that layer
is then the first in which the pair is so wide. After step 1 the paper learns nothing; here a duel that is still wide in
a later layer teaches that one.

`norm` is 0.1 by default, a small part of the radius: a layer judges candidates once all of them are narrow in it, when
its labels outweigh the ridge.

Widths. Sigma^-1, the papers' kind, because the layers are defined by it. Guarantee (the paper's radius). Regret of
order d sqrt(sum_t Var_t) + d: with certain outcomes it does not grow with T.
"""

from __future__ import annotations

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import best_entry
from duelenv.agents.contextual.design import Arms, Floats
from duelenv.agents.contextual.layers import LayeredAgent, LayerSettings
from duelenv.core import AgentView

_HUGE = np.float32(1e30)


class VACDB(LayeredAgent):
    """See the module."""

    def _choose(self, features: Floats) -> tuple[Arms, Arms]:
        radii = self.radii()  # (N, L)
        layers = len(self.scale)
        outside = np.zeros(features.shape[:2], np.float32)  # huge for eliminated candidates
        first, second = np.zeros((2, len(features)), np.int64)
        undecided = np.ones(len(features), np.bool_)
        for layer in range(layers):
            geometry = self.geometry(features, layer)
            mean, widths = geometry.mean, geometry.widths()
            widths -= (outside - self._ties)[:, :, None]
            widths -= (outside - self._ties)[:, None, :]
            i, j = best_entry(widths)
            largest = widths[self._all_rows, i, j]
            explore = undecided & (largest > self.scale[layer])
            first[explore], second[explore] = i[explore], j[explore]
            undecided &= ~explore
            # Among the rest, nobody is left to learn about once all widths are at most alpha; for alpha = 2^-L that is
            # so in the last layer at the latest.
            settled = undecided & (largest <= self.scale[-1])
            if settled.any():
                widths *= radii[:, layer, None, None]
                widths += (mean - outside)[:, :, None]
                widths += (mean - outside)[:, None, :]
                i, j = best_entry(widths)
                first[settled], second[settled] = i[settled], j[settled]
                undecided &= ~settled
            if not undecided.any():
                break
            kept = mean - outside
            slack = self.scale[layer] * radii[:, layer]
            outside[kept < (kept.max(axis=1) - slack)[:, None]] = _HUGE
        return first, second


@register("vacdb")
def vacdb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the VACDB agent."""
    return VACDB(view, seed, "vacdb", settings.take(LayerSettings, norm=0.1))
