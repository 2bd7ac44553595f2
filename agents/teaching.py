"""What the policy is taught besides the labelled duels, by name: pairs that a belief labels. What to ask is elsewhere.

Which pair is worth a label depends on what the belief does not know, which pair teaches the policy on what it does: two
favourites tell most and teach least, since where both are good the label is nearly a coin. A rule chooses further
pairs of responses that are there anyway. They cost no query, train the policy only, never the belief, and are marked
as the model's.

A rule is registered as a function from `Resources` and settings to what chooses the pairs of a round:

    @TEACHING.register("mine")
    def mine(resources, settings):
        def teach(observation, groups):
            ...
            return Duels(rows, pairs, labels)  # labels are probabilities, soft targets
        return teach
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.composed import Duels, Imagine, Select
from duelenv.agents.selection import best_against_worst
from duelenv.core import AgentView, Observation
from duelenv.ground import checks
from duelenv.ground.registry import Registry

#: The rule that needs no belief.
NOTHING_ELSE: Final = "duel"
#: Draws of a belief where a mean over them or their agreement is asked for.
_DRAWS: Final = 20


class Resources(NamedTuple):
    """What a teaching rule may use.

    Attributes:
        view: What the agent may know of its environment.
        belief: What is known of the utility.
        select: The agent's own choice of pairs.
    """

    view: AgentView
    belief: Belief
    select: Select


class Teach(Protocol):
    """A teaching rule bound to what it needs.

    It gets the observation of the round that was just played and its groups of equal texts, as `Select` does, and
    returns duels with labels of its own.
    """

    def __call__(self, observation: Observation, groups: NDArray[np.int64] | None) -> Duels: ...


class TeachingRule(Protocol):
    """Makes a teaching rule for an agent; None where nothing is taught besides the labels."""

    def __call__(self, resources: Resources, settings: SettingsReader) -> Teach | None: ...


TEACHING: Registry[TeachingRule] = Registry("teaching rule")


@dataclass(frozen=True)
class TeachingChoice:
    """What the policy is taught.

    Attributes:
        teach: Name of a teaching rule, one of `TEACHING`; None takes the agent's own default.
    """

    teach: str | None = None


@dataclass(frozen=True)
class TaughtPairs:
    """How much is taught besides the labels.

    Attributes:
        taught_pairs: Further pairs per prompt and round.
    """

    taught_pairs: int = 1

    def __post_init__(self) -> None:
        checks.integer("taught_pairs", self.taught_pairs, low=1)


@dataclass(frozen=True)
class BestWorstSettings:
    """How best and worst are told apart.

    Attributes:
        target: Whose gap the label is: "draw", of the draw that chose the pair; "mean", sigma(gap) on average over
            draws, which is nearer to a half the less is known.
        only_sure: Share of draws that must agree on who is better, in [0, 1); other pairs are left out. 0 keeps all.
    """

    target: str = "draw"
    only_sure: float = 0.0

    def __post_init__(self) -> None:
        checks.one_of("target", self.target, ("draw", "mean"))
        checks.number("only_sure", self.only_sure, low=0.0, below=1.0)


@TEACHING.register(NOTHING_ELSE)
def duel(resources: Resources, settings: SettingsReader) -> Teach | None:
    """Teach the labelled duels and nothing else."""
    return None


@TEACHING.register("mixed")
def mixed(resources: Resources, settings: SettingsReader) -> Teach:
    """Pairs of the agent's own choice, labelled by one draw a row (mixed preference learning, SEA section 2)."""
    belief, count = resources.belief, settings.take(TaughtPairs).taught_pairs

    def teach(observation: Observation, groups: NDArray[np.int64] | None) -> Duels:
        pairs = np.concatenate([resources.select(observation, groups) for _ in range(count)])
        rows = np.tile(np.arange(resources.view.num_envs), count)
        return Duels(rows, pairs, drawn_labels(belief, observation, rows, pairs))

    return teach


@TEACHING.register("best_worst")
def best_worst(resources: Resources, settings: SettingsReader) -> Teach:
    """The best against the worst of a posterior draw, with the target sigma(gap) and not a hard label.

    A hard label has no finite minimiser; with sigma(gap) the policy tends to pi_ref exp(r / beta).
    """
    belief, count = resources.belief, settings.take(TaughtPairs).taught_pairs
    chosen = settings.take(BestWorstSettings)
    several = chosen.target == "mean" or chosen.only_sure > 0.0

    def teach(observation: Observation, groups: NDArray[np.int64] | None) -> Duels:
        draws = belief.sample(observation["features"], max(count + 1, _DRAWS if several else 2))  # (S, N, K)
        rows = np.arange(draws.shape[1])
        taught = []
        for draw in draws[:count]:
            pairs = best_against_worst(draw, groups)
            gaps = (draws[:, rows, pairs[:, 0]] - draws[:, rows, pairs[:, 1]]).astype(np.float64)  # (S, N)
            own = (draw[rows, pairs[:, 0]] - draw[rows, pairs[:, 1]]).astype(np.float64)
            labels = expit(own) if chosen.target == "draw" else expit(gaps).mean(axis=0)
            agree = np.maximum((gaps > 0).mean(axis=0), (gaps < 0).mean(axis=0))
            taught.append(Duels(rows, pairs, np.where(agree >= chosen.only_sure, labels, np.nan)).labelled())
        return Duels(*(np.concatenate(column) for column in zip(*(vars(one).values() for one in taught), strict=True)))

    return teach


def drawn_labels(
    belief: Belief, observation: Observation, rows: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return P(first preferred) of pairs under one posterior draw a row, float64 [M]."""
    draw = belief.sample(observation["features"], 2)[0]  # (N, K)
    margin = draw[rows, pairs[:, 0]] - draw[rows, pairs[:, 1]]
    return np.asarray(expit(margin.astype(np.float64)))


def make_teaching(
    name: str, view: AgentView, belief: Belief, select: Select, settings: SettingsReader
) -> Imagine | None:
    """Make what an agent teaches its policy besides labels.

    In selective worlds the rows that were not asked are taught too, as one posterior draw labels them (SEA).

    Args:
        name: Of a teaching rule.
        view: Of a world with a policy.
        belief: The agent's.
        select: The agent's.
        settings: Read for the rule's own.

    Returns:
        None where only labels are taught.

    Raises:
        UserError: No such rule, or a setting out of range.
    """
    teach = TEACHING[name](Resources(view, belief, select), settings)
    if teach is None and not view.selective:
        return None

    def imagine(
        observation: Observation, groups: NDArray[np.int64] | None, duels: Duels, unasked: NDArray[np.bool_]
    ) -> Duels:
        rows, pairs = duels.rows[unasked], duels.pairs[unasked]
        labels = drawn_labels(belief, observation, rows, pairs) if len(rows) else np.zeros(0)
        further = None if teach is None else teach(observation, groups)
        if further is None:
            return Duels(rows, pairs, labels)
        return Duels(
            np.concatenate([rows, further.rows]),
            np.concatenate([pairs, further.pairs]),
            np.concatenate([labels, further.labels]),
        )

    return imagine
