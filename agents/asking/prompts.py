"""Which rows of a selective world ask for their label, by name.

A world that shows many prompts and pays for few is asked where the duel promises most. A rule is registered as a
function from `AskResources` and settings to what says how much each row's duel deserves a label:

    @PROMPTS.register("mine")
    def mine(resources, settings):
        def worth(observation, chosen, groups):
            ...
            return worth  # float [N], the larger the sooner
        return worth

Rows whose candidates all say the same are never asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking.base import MANY_DRAWS, AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.information import Float64, gaps_of, outcome_information, outcome_variance
from duelenv.agents.roles import Ranked
from duelenv.core import AgentView, Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.ground.registry import Registry

AT_RANDOM = "random"


@dataclass(frozen=True)
class AskSettings:
    """Which rows of a selective world ask.

    Attributes:
        ask_share: Probability that a row asks for its label, SEA's gamma. Read where `asked` is None.
        asked: How many rows of each replicate's batch ask in a round, at least 1; None leaves it to `ask_share`.
        prompts: Which of them do, one of `PROMPTS`.
    """

    ask_share: float = 1.0
    asked: int | None = None
    prompts: str = AT_RANDOM

    def __post_init__(self) -> None:
        checks.number("ask_share", self.ask_share, low=0.0, high=1.0)
        if self.asked is not None:
            checks.integer("asked", self.asked, low=1)


class Worth(Protocol):
    """Says how much the duel of each row deserves a label, float [N]."""

    def __call__(
        self, observation: Observation, chosen: Ranked, groups: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]: ...


class PromptRule(Protocol):
    """Makes a choice of prompts for an agent; None draws them uniformly."""

    def __call__(self, resources: AskResources, settings: SettingsReader) -> Worth | None: ...


PROMPTS: Registry[PromptRule] = Registry("prompt rule")


@PROMPTS.register(AT_RANDOM)
def at_random(resources: AskResources, settings: SettingsReader) -> Worth | None:
    """Take any rows."""
    return None


@PROMPTS.register("own")
def own(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take what the ask rule itself makes of its pairs.

    Raises:
        UserError: The rule does not compare rows.
    """
    if not resources.ranks:
        raise UserError(
            "prompts='own' takes the rows that the ask rule values most, and this one does not compare rows; choose "
            "another ask rule, such as deviation, or another prompt rule, such as prompts='deviation'"
        )

    def worth(observation: Observation, chosen: Ranked, groups: NDArray[np.int64] | None) -> NDArray[np.floating[Any]]:
        if chosen.worth is None:
            raise UserError("the ask rule returned pairs without their worth; return Ranked(pairs, worth)")
        return chosen.worth

    return worth


@PROMPTS.register("deviation")
def deviation(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take the posterior deviation of the pair's gap."""
    return _by_gaps(resources, settings, lambda gaps: gaps.std(axis=0))


@PROMPTS.register("infomax")
def infomax(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take the variance of the pair's outcome."""
    return _by_gaps(resources, settings, outcome_variance)


@PROMPTS.register("information")
def information(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take the mutual information of the pair's label and the utility."""
    return _by_gaps(resources, settings, outcome_information)


@PROMPTS.register("gap")
def gap(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take how far apart the pair is believed to be."""
    return _by_gaps(resources, settings, lambda gaps: np.abs(gaps.mean(axis=0)))


@PROMPTS.register("entropy")
def entropy(resources: AskResources, settings: SettingsReader) -> Worth:
    """Take the policy's predictive entropy given the prompt, the highest first (APL, arXiv 2402.08114).

    Raises:
        UserError: No candidates come from the policy, or at another temperature than 1.
    """
    from duelenv.agents.asking.of_policy import needs_sources, predictive_entropy

    policy = needs_sources(resources.view, "prompt rule 'entropy'", {"policy": 1})["policy"]
    if resources.view.temperature != 1.0:
        raise UserError(
            f"prompt rule 'entropy' is a mean over draws at temperature 1, and the candidates are drawn at "
            f"{resources.view.temperature}; set temperature=1.0 in the world, or choose another rule"
        )

    def worth(observation: Observation, chosen: Ranked, groups: NDArray[np.int64] | None) -> Float64:
        return predictive_entropy(observation["log_prob"][:, observation["source"][0] == policy])

    return worth


def _by_gaps(resources: AskResources, settings: SettingsReader, measure: Callable[[Float64], Float64]) -> Worth:
    """Apply a measure to the draws of each row's gap."""
    belief, count = resources.belief, resources.num_samples(settings, MANY_DRAWS)

    def worth(observation: Observation, chosen: Ranked, groups: NDArray[np.int64] | None) -> Float64:
        return measure(gaps_of(belief.sample(observation["features"], count), chosen.pairs))

    return worth


def prefer_prompts(settings: SettingsReader, view: AgentView, prompts: str, one_in: int = 8) -> None:
    """Let an agent ask in a share of the rows of a selective world, chosen by a rule; a given `ask_share` undoes it.

    Args:
        settings: Of the agent.
        view: Of its world.
        prompts: One of `PROMPTS`.
        one_in: How many rows there are for each that asks.
    """
    if not settings.given("ask_share"):
        settings.prefer(prompts=prompts, asked=max(1, view.batch // one_in))


class PromptChoice:
    """Which rows ask.

    Args:
        batch: Rows of a replicate.
        streams: One per row; a uniform is read from each in every round.
        settings: How many, and which.
        worth: What the rows' duels are worth; None draws rows uniformly.
    """

    def __init__(self, batch: int, streams: RowStreams, settings: AskSettings, worth: Worth | None) -> None:
        self._batch = batch
        self._streams = streams
        self._share, self._asked = settings.ask_share, settings.asked
        self._worth = worth

    @classmethod
    def of(cls, resources: AskResources, settings: SettingsReader) -> PromptChoice | None:
        """Make the choice of an agent; None, and no settings read, in a world that is not selective.

        Raises:
            UserError: More rows than a replicate has, or a prompt rule that has nothing to choose.
        """
        view = resources.view
        if not view.selective:
            return None
        chosen = settings.take(AskSettings)
        if chosen.asked is not None and chosen.asked > view.batch:
            raise UserError(
                f"asked={chosen.asked} is more than the {view.batch} rows of a round; take fewer, or more prompts"
            )
        worth = PROMPTS[chosen.prompts](resources, settings)
        if chosen.prompts != AT_RANDOM and chosen.asked is None:
            raise UserError(
                f"prompts={chosen.prompts!r} chooses among a round's {view.batch} rows, and asked=None does not say "
                "how many ask; set asked=2, say"
            )
        return cls(view.batch, resources.streams, chosen, worth)

    def __call__(self, observation: Observation, chosen: Ranked, groups: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Return which rows ask, bool [N].

        Args:
            observation: The round.
            chosen: Its pairs.
            groups: Equal texts share a number, int64 [N, K], or None.
        """
        order = self._streams.uniform()
        differs = np.ones(len(order), np.bool_) if groups is None else (groups != groups[:, :1]).any(axis=1)
        if self._asked is None:
            return differs & (order < self._share)
        worth = np.zeros(len(order)) if self._worth is None else self._worth(observation, chosen, groups)
        worth = np.where(differs, worth, -np.inf).reshape(-1, self._batch)
        # The largest worth first, and among equals whoever the row's own uniform number puts first.
        ranking = np.lexsort((order.reshape(worth.shape), -worth), axis=1)[:, : self._asked]
        asked = np.zeros(worth.shape, np.bool_)
        np.put_along_axis(asked, ranking, True, axis=1)
        return asked.reshape(-1) & differs
