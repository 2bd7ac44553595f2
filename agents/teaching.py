"""What the policy is taught besides the labelled duels, or instead of them, by name. What to ask is elsewhere.

Which pair is worth a label depends on what the belief does not know, which pair teaches the policy on what it does: two
favourites tell most and teach least, since where both are good the label is nearly a coin. A rule teaches what a belief
says of responses that are there anyway. That costs no query, trains the policy only, never the belief, and is marked as
the model's.

A rule is registered as a function from `Resources` and settings to what is taught of a round:

    @TEACHING.register("mine")
    def mine(resources, settings):
        def teach(played):
            ...
            return Duels(rows, pairs, labels)  # labels are probabilities, soft targets of the agent's preference loss
        return teach

A rule that says more of a prompt's responses than which of two is better brings the loss that reads it: an `Objective`,
which the policy follows instead of the labels. Those of the project are in `duelenv.agents.teaching_sets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.roles import Duels, Played, Ranked, Select, Sets, Teach
from duelenv.agents.selection import best_against_worst
from duelenv.core import AgentView, Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

if TYPE_CHECKING:
    from duelenv.agents.set_losses import SetLoss

#: The rule that needs no belief.
NOTHING_ELSE: Final = "duel"
TARGETS: Final = ("draw", "mean")
#: Draws of a belief where a mean over them or their agreement is asked for.
_DRAWS: Final = 20


# Settings ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeachingChoice:
    """What the policy is taught.

    Attributes:
        teach: Name of a teaching rule, one of `TEACHING`; None takes the agent's own default.
        teach_labels: Whether the policy is taught the oracle's labels as well; None leaves it to the rule: not where it
            brings an objective of its own.
        teach_unasked: Whether in a selective world the duels of rows that were not asked are taught as the belief
            labels them, as SEA and D2PO do; None takes the agent's own default. A rule that brings an objective of its
            own teaches those rows itself.
    """

    teach: str | None = None
    teach_labels: bool | None = None
    teach_unasked: bool | None = None

    def __post_init__(self) -> None:
        if self.teach_labels is not None:
            checks.flag("teach_labels", self.teach_labels)
        if self.teach_unasked is not None:
            checks.flag("teach_unasked", self.teach_unasked)


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
class TargetSettings:
    """Which word of the belief is taught.

    Attributes:
        target: "draw", of one posterior draw a row, the one that chose the pair where a draw did; "mean": of a pair
            sigma(gap) on average over draws, nearer to a half the less is known, of a response its mean utility.
        target_draws: Over how many draws "mean" is taken, at least 2.
    """

    target: str = "draw"
    target_draws: int = _DRAWS

    def __post_init__(self) -> None:
        checks.one_of("target", self.target, TARGETS)
        checks.integer("target_draws", self.target_draws, low=2)


@dataclass(frozen=True)
class SureSettings:
    """Which pairs are left out.

    Attributes:
        only_sure: Share of draws that must agree on who is better, in [0, 1); other pairs are left out. 0 keeps all.
    """

    only_sure: float = 0.0

    def __post_init__(self) -> None:
        checks.number("only_sure", self.only_sure, low=0.0, below=1.0)


# What a rule may use -------------------------------------------------------------------------------------------------


class Resources:
    """What a teaching rule may use.

    Args:
        view: What the agent may know of its environment.
        belief: What is known of the utility.
        select: The agent's own choice of pairs.

    Attributes:
        view: As given.
        belief: As given.
        select: As given.
    """

    def __init__(self, view: AgentView, belief: Belief, select: Select) -> None:
        self.view = view
        self.belief = belief
        self.select = select
        self._word: Word | None = None

    def word(self, settings: SettingsReader, default: str = "draw") -> Word:
        """Return the belief's word as `TargetSettings` want it; of several that ask, the first one's default counts."""
        if self._word is None:
            self._word = Word(self.belief, settings.take(TargetSettings, target=default))
        return self._word


class Word:
    """What a belief says of a round's candidates and pairs.

    Args:
        belief: Of the agent.
        settings: Which word.

    Attributes:
        target: As in `TargetSettings`.
    """

    def __init__(self, belief: Belief, settings: TargetSettings) -> None:
        self.target = settings.target
        self._draws = 2 if self.target == "draw" else settings.target_draws
        self._belief = belief

    def labels(
        self, observation: Observation, rows: NDArray[np.int64], pairs: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return P(first preferred) of pairs [M, 2] in rows [M], float64 [M]."""
        if len(rows) == 0:
            return np.zeros(0)
        draws = self._belief.sample(observation["features"], self._draws)  # (S, N, K)
        draws = draws[:1] if self.target == "draw" else draws
        gaps = (draws[:, rows, pairs[:, 0]] - draws[:, rows, pairs[:, 1]]).astype(np.float64)
        return np.asarray(expit(gaps).mean(axis=0))

    def utility(self, played: Played) -> NDArray[np.float64]:
        """Return the utility of every candidate, float64 [N, K], the same number for the same text."""
        features = played.observation["features"]
        said = self._belief.sample(features, 2)[0] if self.target == "draw" else self._belief.mean(features)
        utility = np.asarray(said, np.float64)
        return utility if played.groups is None else np.take_along_axis(utility, played.groups, axis=1)


@dataclass(frozen=True)
class Objective:
    """A teaching rule with a loss of its own, which the policy follows instead of the labels.

    Attributes:
        loss: What is minimised.
        choose: From the round that was played to rows [M], arms [M, J] and values [M, J] of `Sets`.
    """

    loss: SetLoss
    choose: Callable[[Played], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]

    def __call__(self, played: Played) -> Sets:
        """Return the round's sets."""
        return Sets(*self.choose(played), self.loss)


class TeachingRule(Protocol):
    """Makes a teaching rule for an agent; None where nothing is taught besides the labels."""

    def __call__(self, resources: Resources, settings: SettingsReader) -> Teach | None: ...


TEACHING: Registry[TeachingRule] = Registry("teaching rule")


# Rules that teach pairs ----------------------------------------------------------------------------------------------


@TEACHING.register(NOTHING_ELSE)
def duel(resources: Resources, settings: SettingsReader) -> Teach | None:
    """Teach the labelled duels and nothing else."""
    return None


@TEACHING.register("mixed")
def mixed(resources: Resources, settings: SettingsReader) -> Teach:
    """Teach pairs of the agent's own choice, labelled by the belief (mixed preference learning, SEA section 2)."""
    count, word = settings.take(TaughtPairs).taught_pairs, resources.word(settings)

    def teach(played: Played) -> Duels:
        chosen = [Ranked.of(resources.select(played.observation, played.groups)).pairs for _ in range(count)]
        pairs = np.concatenate(chosen)
        rows = np.tile(np.arange(resources.view.num_envs), count)
        return Duels(rows, pairs, word.labels(played.observation, rows, pairs))

    return teach


@TEACHING.register("best_worst")
def best_worst(resources: Resources, settings: SettingsReader) -> Teach:
    """Teach the best against the worst of a posterior draw, with the target sigma(gap) and not a hard label.

    A hard label has no finite minimiser; with sigma(gap) the policy tends to pi_ref exp(r / beta).
    """
    belief, count = resources.belief, settings.take(TaughtPairs).taught_pairs
    target, only_sure = resources.word(settings).target, settings.take(SureSettings).only_sure
    several = target == "mean" or only_sure > 0.0

    def teach(played: Played) -> Duels:
        draws = belief.sample(played.observation["features"], max(count + 1, _DRAWS if several else 2))  # (S, N, K)
        rows = np.arange(draws.shape[1])
        taught = []
        for draw in draws[:count]:
            pairs = best_against_worst(draw, played.groups)
            gaps = (draws[:, rows, pairs[:, 0]] - draws[:, rows, pairs[:, 1]]).astype(np.float64)  # (S, N)
            own = (draw[rows, pairs[:, 0]] - draw[rows, pairs[:, 1]]).astype(np.float64)
            labels = expit(own) if target == "draw" else expit(gaps).mean(axis=0)
            agree = np.maximum((gaps > 0).mean(axis=0), (gaps < 0).mean(axis=0))
            taught.append(Duels(rows, pairs, np.where(agree >= only_sure, labels, np.nan)).labelled())
        return joined(taught)

    return teach


def joined(several: list[Duels]) -> Duels:
    """Return duels one after the other."""
    return Duels(*(np.concatenate(column) for column in zip(*(vars(one).values() for one in several), strict=True)))


# For agents ----------------------------------------------------------------------------------------------------------


def make_teaching(name: str, resources: Resources, settings: SettingsReader, *, unasked: bool = False) -> Teach | None:
    """Make what an agent teaches its policy besides labels, or instead of them.

    Args:
        name: Of a teaching rule.
        resources: Of the agent.
        settings: Read for the rule's own.
        unasked: Whether the duels of rows that were not asked are taught too, as the belief labels them (SEA, D2PO); an
            objective of its own teaches those rows itself.

    Returns:
        None where only labels are taught.

    Raises:
        UserError: No such rule, a setting out of range, or a world that lacks what the rule needs.
    """
    teach = TEACHING[name](resources, settings)
    if not unasked or isinstance(teach, Objective):
        return teach
    word = resources.word(settings)

    def with_unasked(played: Played) -> Duels:
        rows, pairs = played.duels.rows[played.unasked], played.duels.pairs[played.unasked]
        unasked = Duels(rows, pairs, word.labels(played.observation, rows, pairs))
        further = None if teach is None else teach(played)
        if isinstance(further, Sets):
            raise UserError(
                f"teaching rule {name!r} returned sets and is no Objective; return one from the rule, with its loss"
            )
        return unasked if further is None else joined([unasked, further])

    return with_unasked
