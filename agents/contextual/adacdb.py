"""AdaCDB: optimism under the least bound of all layers, without elimination.

From the code that Di et al. 2023, arXiv 2310.00968, published with VACDB.

Rule. argmax_{i, j} min_l theta_l . (phi_i + phi_j - 2 phi_r) + beta_l |z_ij|_l over the layers l of `layers`, r the
favourite of all layers together. The duel teaches the first layer in which it is wide.

phi_r is not in that code. Without it a bound contains the level of the round's candidates, 2 theta_l . phi_r. All pairs
of a layer share it, so that a single layer needs no reference, but the minimum compares levels of different layers. A
layer without labels puts every level at 0: good candidates get a low bound for being good, and the surer the taught
layers are of them, the more the choice is left to the layer that knows nothing; what a round costs then rises again in
the course of time. Measured from r, the duel of r with itself has the bound 0 in every layer, and a rival of r what it
may gain. For the same reason the radius has to be honest before the first label: a `norm` far below |theta*| ends
exploration early.

Widths. Sigma^-1, as in VACDB. Guarantee. None is published. While every radius holds, the bound of the duel played is
at least what the best candidate gains over r.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.contextual.agent import best_entry
from duelenv.agents.contextual.design import Arms, Float32, Floats, Geometry
from duelenv.agents.contextual.layers import LayeredAgent, LayerSettings
from duelenv.core import AgentView


class AdaCDB(LayeredAgent):
    """See the module."""

    def _choose(self, features: Floats) -> tuple[Arms, Arms]:
        lead = features - features[self._all_rows, self.favourites(features)][:, None]  # phi - phi_r
        radii = self.radii()
        first, second = np.empty((2, len(features)), np.int64)
        layers = [self.geometry(lead, layer) for layer in range(len(self.scale))]
        for blocks in zip(*(geometry.blocks() for geometry in layers), strict=True):
            part = blocks[0][0]
            first[part], second[part] = adacdb_pair([block for _, block in blocks], radii[part])
        return first, second


def adacdb_pair(layers: Sequence[Geometry], radii: Float32) -> tuple[Arms, Arms]:
    """See the module, for the geometry of each layer with phi measured from the favourite, and radii [N, L]."""
    bounds = _bounds(layers[0], radii[:, 0])
    for layer, geometry in enumerate(layers[1:], start=1):
        np.minimum(bounds, _bounds(geometry, radii[:, layer]), out=bounds)
    first, second = best_entry(bounds)
    # Bounds are symmetric, so rounding alone would decide who comes first.
    return np.minimum(first, second), np.maximum(first, second)


def _bounds(geometry: Geometry, radii: Float32) -> Float32:
    """Return theta . (phi_i + phi_j) + beta |z_ij| of all pairs, [N, K, K]."""
    bounds = geometry.widths()
    bounds *= radii[:, None, None]
    bounds += geometry.mean[:, :, None]
    bounds += geometry.mean[:, None, :]
    return bounds


@register("adacdb")
def adacdb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the AdaCDB agent."""
    return AdaCDB(view, seed, "adacdb", settings.take(LayerSettings))
