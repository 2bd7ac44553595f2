"""Ask rules of the linear dueling literature on any belief: means, and deviations of gaps over its joint draws.

The rules are those of `duelenv.agents.contextual`, where each stands with its source; here |z_ij| is the posterior
deviation of r_i - r_j, exact for a linear belief (of temperature 1) and over draws for any other. Rows are compared by
the deviation of their pair's gap, unless a rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import AskResources
from duelenv.agents.asking.posterior import measured
from duelenv.agents.base import SettingsReader
from duelenv.agents.contextual.deltaucb import deltaucb_pair
from duelenv.agents.contextual.design import Arms, Float32, Geometry
from duelenv.agents.contextual.maxinp import maxinp_pair
from duelenv.agents.contextual.maxminlcb import maxminlcb_pair
from duelenv.agents.contextual.maxpairucb import maxpairucb_pair
from duelenv.agents.roles import Ranked, Select
from duelenv.agents.selection import apart, random_order
from duelenv.core import Observation
from duelenv.ground import checks


@dataclass(frozen=True)
class OptimismSettings:
    """How far a rule trusts what it does not know.

    Attributes:
        beta: Posterior deviations of a gap that are thought possible, not negative.
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, low=0.0)


def gap_deviation(seen: Geometry, first: Arms, second: Arms) -> Float32:
    """Return |z_ij| of one pair in every row, [N]."""
    return seen.widths()[np.arange(len(first)), first, second]


def on_geometry(
    resources: AskResources,
    settings: SettingsReader,
    rule: Callable[[Geometry], tuple[Arms, Arms]],
    worth: Callable[[Geometry, Arms, Arms], Float32] = gap_deviation,
) -> Select:
    """Make an ask rule of a rule on a geometry; equal texts are kept apart.

    Args:
        resources: Of the agent.
        settings: Read for the draws.
        rule: From a geometry to first and second.
        worth: From a geometry, first and second to what a row's duel is worth.
    """
    look, streams = measured(resources, settings), resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        seen = look(observation)
        pairs = apart(np.column_stack(rule(seen)).astype(np.int64), seen.mean, groups)
        return Ranked(random_order(pairs, streams), worth(seen, *pairs.T))

    return select


def _by_widths(
    resources: AskResources, settings: SettingsReader, rule: Callable[[Geometry, np.float32], tuple[Arms, Arms]]
) -> Select:
    """Make an ask rule of a rule on a geometry and beta."""
    beta = np.float32(settings.take(OptimismSettings).beta)
    return on_geometry(resources, settings, lambda seen: rule(seen, beta))


def deltaucb(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the duel whose gap may be largest; worth that gap, so that rows are compared as pairs are."""
    beta = np.float32(settings.take(OptimismSettings).beta)

    def worth(seen: Geometry, first: Arms, second: Arms) -> Float32:
        rows = np.arange(len(first))
        gap = seen.mean[rows, first] - seen.mean[rows, second]
        return gap + beta * seen.widths()[rows, first, second]

    return on_geometry(resources, settings, lambda seen: deltaucb_pair(seen, beta), worth)


def maxminlcb(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for a leader that no follower can beat for certain, and the follower that comes nearest."""
    return _by_widths(resources, settings, maxminlcb_pair)


def maxinp(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the largest deviation among those that may be best."""
    return _by_widths(resources, settings, maxinp_pair)


def optimistic(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the largest sum of two utilities and their gap's deviation (MaxPairUCB)."""
    return _by_widths(resources, settings, maxpairucb_pair)
