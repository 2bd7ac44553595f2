"""Ask rules about what a label tells: of its outcome, of the utility, of who is best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import DRAWS, MANY_DRAWS, AskResources
from duelenv.agents.asking.optimistic import OptimismSettings, on_geometry
from duelenv.agents.asking.posterior import TIE, deciding_geometry, measured
from duelenv.agents.base import SettingsReader
from duelenv.agents.contextual.ids import ids_pair
from duelenv.agents.contextual.vids import outcome_swing, vids_pair
from duelenv.agents.information import (
    Float64,
    of_all_pairs,
    outcome_information,
    outcome_variance,
)
from duelenv.agents.roles import Ranked, Select
from duelenv.agents.selection import apart, best_scored_pair, random_order
from duelenv.core import Observation


def infomax(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the duel whose outcome the draws agree on least; worth the variance of its probability."""
    return _on_gaps(resources, settings, outcome_variance, DRAWS)


def information(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the duel whose label tells most of the utility; worth the mutual information (BALD)."""
    return _on_gaps(resources, settings, outcome_information, MANY_DRAWS)


def deviation(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the duel whose gap is least known, however sure its outcome; worth the gap's posterior deviation.

    In a linear belief it is the pair that shrinks the posterior's volume most (D-optimal design).
    """
    look = measured(resources, settings)
    streams = resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        first, second = np.triu_indices(resources.view.num_candidates, k=1)
        widths = look(observation).widths()[:, first, second]
        pairs, worth = best_scored_pair(np.stack([first, second]), widths, groups)
        return Ranked(random_order(pairs, streams), worth)

    return select


def ids(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the least squared regret per information about the utility."""
    beta = np.float32(settings.take(OptimismSettings).beta)
    streams = resources.streams
    return on_geometry(resources, settings, lambda seen: ids_pair(seen, streams.uniform(), beta=beta))


def vids(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the least squared regret per information about who is best."""

    def choose(draws: NDArray[np.floating], ties: Float64, groups: NDArray[np.int64] | None) -> Ranked:
        seen, base = deciding_geometry(draws, ties)
        pairs = np.column_stack(vids_pair(seen, base, resources.streams.uniform()))
        pairs = apart(pairs, seen.mean, groups)
        return Ranked(pairs, outcome_swing(seen)[np.arange(len(pairs)), pairs[:, 0], pairs[:, 1]])

    return _on_many_draws(resources, settings, choose)


def decisive(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the duel that tells most of who is best at any cost; worth the variance that knowing this explains."""
    first, second = np.triu_indices(resources.view.num_candidates, k=1)

    def choose(draws: NDArray[np.floating], ties: Float64, groups: NDArray[np.int64] | None) -> Ranked:
        swing = outcome_swing(deciding_geometry(draws, ties)[0])
        return Ranked(*best_scored_pair(np.stack([first, second]), swing[:, first, second], groups))

    return _on_many_draws(resources, settings, choose)


def _on_gaps(
    resources: AskResources, settings: SettingsReader, measure: Callable[[Float64], Float64], default: int
) -> Select:
    """Make a rule that takes the pair of the largest measure of its gap's draws."""
    count = resources.num_samples(settings, default)
    belief, streams = resources.belief, resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        pairs, worth = best_scored_pair(*of_all_pairs(measure, belief.sample(observation["features"], count)), groups)
        return Ranked(random_order(pairs, streams), worth)

    return select


def _on_many_draws(
    resources: AskResources,
    settings: SettingsReader,
    choose: Callable[[NDArray[np.floating], Float64, NDArray[np.int64] | None], Ranked],
) -> Select:
    """Make a rule over draws [S, N, K], ties [N, K] and groups."""
    count = resources.num_samples(settings, MANY_DRAWS)
    belief, streams = resources.belief, resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        draws = belief.sample(observation["features"], count)
        chosen = choose(draws, TIE * streams.uniform(draws.shape[-1]), groups)
        return Ranked(random_order(chosen.pairs, streams), chosen.worth)

    return select
