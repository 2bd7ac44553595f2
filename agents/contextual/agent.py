"""What the contextual algorithms share: estimate, widths, ties, checkpoints; no rule of any of them.

An algorithm subclasses `ContextualAgent` and chooses pairs in `_choose` from the `Geometry` of a round. Rows of one
replicate (batch > 1) choose from the same state and then all teach it. A pair may be a candidate against itself: that
is what a bandit plays once it has found the best, and its label teaches nothing. In worlds without such duels the best
other candidate takes the second place.

Ties: every candidate position of every row has a small random number, drawn once, that is added to its estimate (at
most 1e-5 of a unit of utility). It decides among candidates that look exactly alike, such as all of them in the first
round, so that the numbering of the arms gives nothing away.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.asking import AskResources, PromptChoice
from duelenv.agents.base import Agent, Metrics, SettingsReader
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.agents.contextual.design import Arms, DesignMatrix, Float32, Float64, Geometry, WidthSettings, measure
from duelenv.agents.parts import make_schooling
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Learner, Ranked, equal_texts
from duelenv.agents.schooling import Schooling
from duelenv.agents.selection import apart
from duelenv.agents.teaching import Resources
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

Rule = Callable[[Geometry, np.float32], tuple[Arms, Arms]]
"""A pair for every row from the geometry of a round and beta."""

_TIE_BREAK = np.float32(1e-5)


@dataclass(frozen=True)
class EstimatorSettings:
    """The logistic estimate that all contextual rules share; see `LinearLogisticSettings` for its two estimators.

    Attributes:
        prior_precision: lambda, in the likelihood's ridge term and in V.
        estimator: "online", an O(d^2) Newton step a label; or "laplace", the exact maximum over all labels, which are
            kept: its time and memory grow with the number of labels.
        refit_every: Under "laplace", labels between two exact fits.
    """

    prior_precision: float = 1.0
    estimator: str = "online"
    refit_every: int = 1

    def __post_init__(self) -> None:
        self.belief()

    def belief(self) -> LinearLogisticSettings:
        """Return the same as the belief's own settings."""
        return LinearLogisticSettings(
            prior_precision=self.prior_precision,
            estimator=self.estimator,  # type: ignore[arg-type]
            refit_every=self.refit_every,
        )


def feature_dim(view: AgentView, name: str, *, teaches: bool = False) -> int:
    """Return the number of features d of a world that a rule can play.

    Args:
        view: The world's.
        name: The agent's, for messages.
        teaches: Whether the agent trains the policy of a world with one.

    Raises:
        UserError: The world shows no features, or trains a policy model and the agent does not.
    """
    if view.policy is not None and not teaches:
        raise UserError(
            f"agent {name!r} duels candidates by their features and trains no policy, but {view.world} has one; "
            "use a world of features, or an agent such as 'thompson'"
        )
    space = view.observation_space.spaces.get("features")
    if space is None or space.shape is None:
        raise UserError(f"agent {name!r} needs features of the candidates, and {view.world} shows none")
    return int(space.shape[-1])


def small_numbers(view: AgentView, seed: int, name: str) -> Float32:
    """Draw the numbers that decide among equal candidates, float32 [N, K]; see the module."""
    streams = RowStreams(seed, f"agents/{name}/ties", view.num_envs)
    ties: Float32 = _TIE_BREAK * streams.uniform(view.num_candidates, dtype=np.float32)
    return ties


class ContextualAgent(Agent):
    """Duels candidates by a linear estimate of their utility; with a policy, it also teaches that.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams, one per row.
        name: The name it is registered under, also the purpose of its streams.
        estimator: Settings of the estimate.
        width: "hessian" or "design": the matrix of `Geometry`.

    Attributes:
        belief: theta_hat and H^-1.
        design: V, or None where the rule takes H^-1.
        streams: The rule's own draws.
        schooling: What moves the policy, see `taught`; None in worlds without one.
        prompts: Which rows of a selective world ask, see `taught`; None where all do.

    Raises:
        UserError: A world without features.
    """

    belief: LinearLogistic

    def __init__(self, view: AgentView, seed: int, name: str, estimator: EstimatorSettings, width: str) -> None:
        super().__init__(view)
        self.name = name
        self.dim = feature_dim(view, name, teaches=True)
        self.schooling: Schooling | None = None
        self.prompts: PromptChoice | None = None
        self.belief = LinearLogistic(
            self.dim, replicates=view.replicates, batch=view.batch, root=seed, settings=estimator.belief()
        )
        self.design = DesignMatrix(self.dim, view.replicates, estimator.prior_precision) if width == "design" else None
        self.streams = RowStreams(seed, f"agents/{name}", view.num_envs)
        self._ties = small_numbers(view, seed, name)
        self._all_rows = np.arange(view.num_envs)

    @property
    def learner(self) -> Learner | None:
        """What moves the policy; None in worlds without one."""
        return None if self.schooling is None else self.schooling.learner

    @abstractmethod
    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        """Return the first and second candidate of every row's duel, int64 [N] each, for features [N, K, d]."""

    def _learn(self, first: NDArray[Any], second: NDArray[Any], labels: Labels) -> Metrics:
        """Learn from duels of features [N, d] with labels [N]; the same rows as `_choose`."""
        metrics = self.belief.update(first, second, labels)
        if self.design is not None:
            self.design.update(difference(first, second), (~np.isnan(labels)).astype(np.float64))
        return metrics

    def square(self, z: Float64) -> Float64:
        """Return |z|^2 under the rule's matrix, float64 [N], for z [N, d]."""
        if self.design is not None:
            return self.design.square(z)
        grouped = z.reshape(self.view.replicates, -1, self.dim)
        return ((grouped @ self.belief.root_covariance) ** 2).sum(-1).reshape(-1)

    def measure(self, features: NDArray[Any], *, centred: bool = False) -> Geometry:
        """Return the estimate and widths of the candidates, features [N, K, d]; see `design.measure`."""
        return measure(features, self.belief, self.design, self._ties, centred=centred)

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        features = observation["features"]
        first, second = self._choose(features)
        groups = equal_texts(self.view, observation)
        actions = ask_all(self.view, first, second, lambda: self.belief.mean(features), groups)
        if self.prompts is not None:
            actions[:, 2] = self.prompts(observation, Ranked(actions[:, :2]), groups)
        return actions

    def _learn_pieces(self, pieces: Sequence[Piece]) -> Metrics:
        metrics = super()._learn_pieces(pieces)
        if self.schooling is not None:
            metrics = metrics | self.schooling.learn(pieces)
            self.gradient_steps = self.schooling.gradient_steps
        return metrics

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        features = observation["features"]
        return self._learn(features[self._all_rows, actions[:, 0]], features[self._all_rows, actions[:, 1]], labels)

    def _recommend(self, observation: Observation) -> Arms:
        return self.belief.mean(observation["features"]).argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        state = {"belief": self.belief.state_dict(), "streams": self.streams.state_dict()}
        if self.design is not None:
            state["design"] = self.design.state_dict()
        if self.schooling is not None:
            state["schooling"] = self.schooling.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.belief.load_state_dict(state["belief"])
        self.streams.load_state_dict(state["streams"])
        if self.design is not None:
            self.design.load_state_dict(state["design"])
        if self.schooling is not None:
            self.schooling.load_state_dict(state["schooling"])
            self.gradient_steps = self.schooling.gradient_steps


Contextual = TypeVar("Contextual", bound=ContextualAgent)


def taught(agent: Contextual, seed: int, settings: SettingsReader) -> Contextual:
    """Give an agent what moves the policy and what chooses the prompts, in worlds that need them; the same agent.

    Args:
        agent: A new one.
        seed: Root of the learner's streams.
        settings: Read for what is taught, the learner's, and which rows ask.
    """
    agent.prompts = PromptChoice.of(AskResources(agent.view, agent.streams, lambda: agent.belief), settings)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return agent._act(observation)[:, :2]

    agent.schooling = make_schooling(
        agent.view,
        seed,
        settings,
        name=agent.name,
        resources=lambda: Resources(agent.view, agent.belief, select),
    )
    return agent


class WidthAgent(ContextualAgent):
    """A rule without randomness or memory of its own: estimate plus beta times widths.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: Registered name.
        settings: Read for `EstimatorSettings` and `WidthSettings`.
        rule: The rule, from the geometry and beta to a pair.
    """

    def __init__(self, view: AgentView, seed: int, name: str, settings: SettingsReader, rule: Rule) -> None:
        chosen = settings.take(WidthSettings)
        super().__init__(view, seed, name, settings.take(EstimatorSettings), chosen.width)
        self.beta = np.float32(chosen.beta)
        self._rule = rule

    def _choose(self, features: NDArray[Any]) -> tuple[Arms, Arms]:
        return by_blocks(lambda geometry: self._rule(geometry, self.beta), self.measure(features))


def by_blocks(rule: Callable[..., tuple[Arms, Arms]], geometry: Geometry, *rest: NDArray[Any]) -> tuple[Arms, Arms]:
    """Apply a rule that looks at all pairs, block by block: twice as fast for K = 32 as all rows at once.

    Args:
        rule: A pair for every row from a block's geometry and its rows of `rest`.
        geometry: Of all rows.
        rest: What else the rule reads, with a leading row axis.
    """
    chosen = [rule(block, *(array[part] for array in rest)) for part, block in geometry.blocks()]
    if len(chosen) == 1:
        return chosen[0]
    return np.concatenate([first for first, _ in chosen]), np.concatenate([second for _, second in chosen])


def ask_all(
    view: AgentView,
    first: Arms,
    second: Arms,
    mean: Callable[[], NDArray[np.floating[Any]]],
    groups: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Return actions [N, 2], or [N, 3] in a selective world: these algorithms learn from every duel, and ask in all.

    Args:
        view: The world's.
        first: The rule's choice, int64 [N].
        second: Likewise; where it may not meet the first, the best that may takes its place.
        mean: Utilities [N, K] that say who is best.
        groups: From `equal_texts`.
    """
    actions = np.empty((len(first), 3 if view.selective else 2), np.int64)
    actions[:, 0], actions[:, 1] = first, second
    actions[:, 2:] = 1
    if groups is not None:
        actions[:, :2] = apart(actions[:, :2], mean(), groups)
    return actions


def difference(first: NDArray[Any], second: NDArray[Any]) -> Float64:
    """Return z = phi_first - phi_second in double precision, [N, d]."""
    return np.subtract(first, second, dtype=np.float64)


def best_entry(scores: NDArray[Any]) -> tuple[Arms, Arms]:
    """Return row and column of the largest entry of each score matrix [N, K, K], int64 [N] each."""
    num_arms = scores.shape[-1]
    return np.divmod(scores.reshape(len(scores), -1).argmax(axis=1), num_arms)
