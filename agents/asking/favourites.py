"""Ask rules about who is believed good: favourites of posterior draws, the best against the worst, the best of n."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import DRAWS, AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.information import gaps_of, outcome_variance
from duelenv.agents.roles import Ranked, Select
from duelenv.agents.selection import (
    Floats,
    best_against_worst,
    best_arm_pair,
    best_of_n_pair,
    extreme_pair,
    random_order,
    reversed_thompson_pair,
    thompson_pair,
)
from duelenv.core import Observation, Pairs


def thompson(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the favourites of two draws (SEA's explore and exploit)."""
    count = resources.num_samples(settings, 2 if resources.view.self_duels else DRAWS)
    belief, streams = resources.belief, resources.streams

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return random_order(thompson_pair(belief.sample(observation["features"], count), groups), streams)

    return select


def best_arm(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for a draw's favourite and its least certain rival (SEA's best arm); worth the variance of its outcome."""
    count = resources.num_samples(settings, DRAWS)
    belief, streams = resources.belief, resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        draws = belief.sample(observation["features"], count)
        pairs = random_order(best_arm_pair(draws, groups), streams)
        return Ranked(pairs, outcome_variance(gaps_of(draws, pairs)))

    return select


def best_worst(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the best against the worst of one draw; worth the draw's gap."""
    belief = resources.belief
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        draw = belief.sample(observation["features"], 2)[0]
        return _ranked_by_gap(best_against_worst(draw, groups), draw, draw, resources)

    return select


def reversed_thompson(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for one draw's best against another's worst (DRTS); worth the gap, each by its own draw."""
    belief = resources.belief
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        draws = belief.sample(observation["features"], 2)
        return _ranked_by_gap(reversed_thompson_pair(draws, groups), draws[0], draws[1], resources)

    return select


def extreme(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the best against the worst under the mean; worth the gap."""
    return _on_mean(resources, extreme_pair)


def best_of_n(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the best under the mean against any other; worth the gap."""
    return _on_mean(resources, best_of_n_pair)


def _on_mean(resources: AskResources, rule: Callable[..., Pairs]) -> Select:
    """Make a rule over the mean utility."""
    belief, streams = resources.belief, resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Ranked:
        mean = belief.mean(observation["features"])
        return _ranked_by_gap(rule(mean, streams, groups), mean, mean, resources)

    return select


def _ranked_by_gap(pairs: Pairs, of_first: Floats, of_second: Floats, resources: AskResources) -> Ranked:
    """Return pairs in random order, worth utilities [N, K] of their first less utilities of their second."""
    rows = np.arange(len(pairs))
    worth = of_first[rows, pairs[:, 0]] - of_second[rows, pairs[:, 1]]
    return Ranked(random_order(pairs, resources.streams), worth)
