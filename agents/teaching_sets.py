"""Teaching rules with an objective of their own: what a belief says of all of a prompt's responses at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Played, with_sources
from duelenv.agents.selection import best_against_worst
from duelenv.agents.teaching import TEACHING, Objective, Resources
from duelenv.core import AgentView, Observation
from duelenv.ground import checks
from duelenv.ground.errors import UserError

Rows = NDArray[np.int64]
Values = NDArray[np.float64]

PARTITIONS: Final = ("empirical", "uniform")
_REFERENCE: Final = "reference"


@dataclass(frozen=True)
class DistillationSettings:
    """How strongly a policy that is taught utilities is tied to its reference.

    Attributes:
        taught_beta: beta of what is taught, DPO's, above 0; the minimiser is pi_ref exp(r / beta) / Z.
    """

    taught_beta: float = 0.1

    def __post_init__(self) -> None:
        checks.number("taught_beta", self.taught_beta, above=0.0)


@dataclass(frozen=True)
class QuantileSettings:
    """Of the regression on quantiles.

    Attributes:
        taught_beta: beta of what is taught, above 0. A quantile is at most 1, so that no response gains more than
            log(1 / beta) nats: what the reference says in 1.5 % of cases can reach 14 % at 0.1, 78 % at 0.01.
        partition: log Z of a prompt, "empirical" from the quantiles of its own reference responses, right where several
            share a utility; "uniform" as for infinitely many without ties, beta (e^(1 / beta) - 1), which with few
            responses and a small beta lowers even the best of them.
    """

    taught_beta: float = 0.01
    partition: str = "empirical"

    def __post_init__(self) -> None:
        checks.number("taught_beta", self.taught_beta, above=0.0)
        checks.one_of("partition", self.partition, PARTITIONS)


@dataclass(frozen=True)
class ImitationSettings:
    """Of the best and worst of n.

    Attributes:
        imitation: Weight of the likelihood of the best, in [0, 1].
    """

    imitation: float = 0.005

    def __post_init__(self) -> None:
        checks.number("imitation", self.imitation, low=0.0, high=1.0)


@dataclass(frozen=True)
class GradientSettings:
    """Of the policy gradient.

    Attributes:
        anchor: Weight of KL(reference || policy), estimated on the reference's responses of the round, at least 0.
        eps: Added to the signal of both responses of a pair, in either order; at 0 what one gains the other loses.
    """

    anchor: float = 0.05
    eps: float = 0.0

    def __post_init__(self) -> None:
        checks.number("anchor", self.anchor, low=0.0)
        checks.number("eps", self.eps)


@TEACHING.register("reward_distillation")
def reward_distillation(resources: Resources, settings: SettingsReader) -> Objective:
    """Teach utilities as differences of log-ratios: (beta h - (r_i - r_j))^2 over all pairs of a prompt's responses."""
    from duelenv.agents.set_losses import RewardDistillation

    return Objective(
        RewardDistillation(settings.take(DistillationSettings).taught_beta), _utilities(resources, settings)
    )


@TEACHING.register("boltzmann")
def boltzmann(resources: Resources, settings: SettingsReader) -> Objective:
    """Teach utilities as a distribution: softmax of log-ratios towards softmax(r / beta) (2604.11119)."""
    from duelenv.agents.set_losses import Boltzmann

    return Objective(Boltzmann(settings.take(DistillationSettings).taught_beta), _utilities(resources, settings))


@TEACHING.register("quantile_regression")
def quantile_regression(resources: Resources, settings: SettingsReader) -> Objective:
    """Teach quantiles of the utility among the reference's responses (QRPO, 2507.08068).

    Raises:
        UserError: Fewer than two candidates of the reference at temperature 1.
    """
    from duelenv.agents.set_losses import Regression

    _require_reference("quantile_regression", resources.view, at_least=2)
    chosen, word = settings.take(QuantileSettings), resources.word(settings, "mean")
    beta = chosen.taught_beta
    most = -np.log(beta) - np.log1p(-np.exp(-1 / beta))  # of a quantile of 1 among infinitely many, log(1 / beta)

    def choose(played: Played) -> tuple[Rows, Rows, Values]:
        columns = _reference_columns(resources.view, played.observation)
        utility = word.utility(played)
        rows = np.arange(len(utility) if len(columns) > 1 else 0)
        quantile = quantiles(utility[rows], columns)
        if chosen.partition == "uniform":  # log(beta (e^(1 / beta) - 1)) without the overflow
            log_z = np.full((len(rows), 1), 1 / beta - most)
        else:
            log_z = logsumexp(quantile[:, columns] / beta, axis=1, keepdims=True) - np.log(max(len(columns), 1))
        # Few references say little of Z, and one better than all of them would otherwise gain more than any may.
        return rows, _everyone(rows, utility.shape[1]), np.minimum(quantile - beta * log_z, beta * most)

    return Objective(Regression(beta), choose)


@TEACHING.register("best_and_worst_of_n")
def best_and_worst_of_n(resources: Resources, settings: SettingsReader) -> Objective:
    """Teach the best and the worst of the reference's n responses, set apart as the best of n would do (BoNBoN).

    Raises:
        UserError: Fewer than two candidates of the reference at temperature 1.
    """
    from duelenv.agents.set_losses import BestAndWorstOfN

    draws = _require_reference("best_and_worst_of_n", resources.view, at_least=2)
    imitation, word = settings.take(ImitationSettings).imitation, resources.word(settings, "mean")

    def choose(played: Played) -> tuple[Rows, Rows, Values]:
        columns = _reference_columns(resources.view, played.observation)
        if len(columns) < 2:
            return _nothing(2)
        pairs = columns[best_against_worst(word.utility(played)[:, columns], None)]
        texts = pairs if played.groups is None else np.take_along_axis(played.groups, pairs, axis=1)
        rows = np.flatnonzero(texts[:, 0] != texts[:, 1])  # n equal texts have no best
        return rows, pairs[rows], np.zeros((len(rows), 2))

    return Objective(BestAndWorstOfN(draws, imitation), choose)


@TEACHING.register("policy_gradient")
def policy_gradient(resources: Resources, settings: SettingsReader) -> Objective:
    """Teach the belief's preferences as a signal to climb, tied to the reference (2603.17378, from excerpts).

    Of a prompt that was asked, the duel and the best against the worst; of another, the best against the worst and the
    second best against the second worst, where it has four different texts. In both orders a response Y against Y'
    gains p(Y > Y') - 1/2 + eps. A text against itself teaches nothing. The raw label never reaches the policy, and the
    fixed point is not pi_ref exp(r / beta). The anchor is the reference, not an average of the policy's own past.

    Raises:
        UserError: An anchor without candidates of the reference at temperature 1.
    """
    from duelenv.agents.set_losses import PolicyGradient

    chosen = settings.take(GradientSettings)
    if chosen.anchor:
        _require_reference("policy_gradient", resources.view, at_least=1, otherwise="or anchor=0")
    word, belief = resources.word(settings, "mean"), resources.belief

    def choose(played: Played) -> tuple[Rows, Rows, Values]:
        columns = _reference_columns(resources.view, played.observation) if chosen.anchor else np.zeros(0, np.int64)
        if chosen.anchor and not len(columns):  # texts from elsewhere, without any of the reference
            return _nothing(4)
        mean = np.asarray(belief.mean(played.observation["features"]))
        rows = np.arange(len(mean))
        first = best_against_worst(mean, played.groups)
        ranked, texts = _by_text(mean, played.groups)
        seconds = np.where(texts[:, np.newaxis] < 4, ranked[:, :1], _seconds(ranked, texts))  # one against itself
        second = np.where(played.unasked[:, np.newaxis], seconds, played.duels.pairs)
        pairs = np.concatenate([first, second])
        p = word.labels(played.observation, np.tile(rows, 2), pairs)
        signal = np.stack([p - 0.5 + chosen.eps, 0.5 - p + chosen.eps], axis=1)
        said = pairs if played.groups is None else np.take_along_axis(np.tile(played.groups, (2, 1)), pairs, axis=1)
        signal = np.where(said[:, :1] != said[:, 1:], signal, 0.0).reshape(2, -1, 2)
        values = np.concatenate([*signal, np.full((len(rows), len(columns)), chosen.anchor / max(len(columns), 1))], 1)
        arms = np.concatenate([first, second, np.tile(columns, (len(rows), 1))], axis=1)
        return rows, arms, values

    return Objective(PolicyGradient(), choose)


def quantiles(utility: Values, columns: Rows) -> Values:
    """Return the mid-rank of every candidate among the reference's, itself included, in (0, 1).

    Of n others of which b are worse and t as good, (b + t / 2 + 1/2) / (n + 1): for the reference's own K responses
    (rank - 1/2) / K, whose mean is 1/2 for every K.

    Args:
        utility: [N, K].
        columns: Which of the K are the reference's.
    """
    others = utility[:, columns]
    worse = (others[:, np.newaxis] < utility[..., np.newaxis]).sum(-1)
    equal = (others[:, np.newaxis] == utility[..., np.newaxis]).sum(-1)
    own = np.isin(np.arange(utility.shape[1]), columns).astype(np.int64)
    return np.asarray((worse + (equal - own) / 2 + 0.5) / (len(columns) - own + 1))


def _utilities(resources: Resources, settings: SettingsReader) -> Any:
    """Give all candidates of all rows with their utility."""
    word = resources.word(settings, "mean")

    def choose(played: Played) -> tuple[Rows, Rows, Values]:
        utility = word.utility(played)
        rows = np.arange(len(utility))
        return rows, _everyone(rows, utility.shape[1]), utility

    return choose


def _everyone(rows: Rows, count: int) -> Rows:
    return np.tile(np.arange(count), (len(rows), 1))


def _nothing(width: int) -> tuple[Rows, Rows, Values]:
    return np.zeros(0, np.int64), np.zeros((0, width), np.int64), np.zeros((0, width))


def _by_text(mean: NDArray[Any], groups: Rows | None) -> tuple[Rows, NDArray[np.int64]]:
    """Rank the different texts of every row: candidates [N, K], one a text, the worst first, and how many texts [N]."""
    firsts = np.ones(mean.shape, np.bool_) if groups is None else groups == np.arange(mean.shape[1])
    return np.argsort(np.where(firsts, mean, np.inf), axis=1, kind="stable"), firsts.sum(axis=1)


def _seconds(ranked: Rows, texts: NDArray[np.int64]) -> Rows:
    """Find the second best and the second worst text of every row that has four, [N, 2]."""
    best = np.take_along_axis(ranked, np.maximum(texts - 2, 0)[:, np.newaxis], axis=1)
    return np.concatenate([best, ranked[:, 1:2]], axis=1)


def _reference_columns(view: AgentView, observation: Observation) -> Rows:
    """Find the candidates that the reference said, the same in every row; none among texts from elsewhere."""
    return np.flatnonzero(observation["source"][0] == view.sources.index(_REFERENCE))


def _require_reference(name: str, view: AgentView, *, at_least: int, otherwise: str = "") -> int:
    """Return how many candidates a round has of the reference, drawn as it speaks.

    Raises:
        UserError: There are too few, or they are drawn at another temperature.
    """
    counts = dict(zip(view.sources, view.source_counts, strict=True))
    found = counts.get(_REFERENCE, 0)
    alternative = f" {otherwise}" if otherwise else ""
    if found < at_least:
        raise UserError(
            f"teach={name!r} needs {at_least} or more candidates of the reference, and this world has {found}; "
            f"set {with_sources(view, policy=2, **{_REFERENCE: max(at_least, 4)})}{alternative}"
        )
    if view.temperature != 1.0:
        raise UserError(
            f"teach={name!r} reads responses as the reference says them, and this world samples at temperature "
            f"{view.temperature:g}; set temperature=1{alternative}"
        )
    return found
