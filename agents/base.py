"""What an agent is, how it is put together, and the registry of names; no rule of any particular method.

An agent is a composition: a belief about the utility, a selection rule for the pair, and a learner that moves the
policy. `ComposedAgent` joins the three; a method is a function that builds one from an `AgentView` and its settings.
"""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import AgentView, DuelEnv, DuelVectorEnv, Labels, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv

    from duelenv.agents.beliefs.base import Belief

Metrics = dict[str, float]
Settings = TypeVar("Settings")


class Agent(ABC):
    """Chooses duels and learns from their labels.

    Public methods take and return what the environment gives and wants: with a leading row axis for a vector world,
    without one for a scalar world. Subclasses see rows only.

    Args:
        view: What the agent may know of its environment.

    Attributes:
        gradient_steps: Optimiser steps taken on the policy so far.
    """

    gradient_steps: int = 0

    def __init__(self, view: AgentView) -> None:
        self.view = view

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Choose a pair in every row.

        Returns:
            int64 [N, 2], or [N, 3] with the ask flag in a selective world ([2] or [3] in a scalar one).
        """
        pairs = self._act(self._rows(observation))
        return pairs[0] if self.view.scalar else pairs

    def update(self, observation: Observation, actions: Any, labels: Any) -> Metrics:
        """Learn from the labels of `actions` on `observation`; rows whose label is NaN teach nothing.

        Returns:
            Figures about the update, by plain names.
        """
        rows = self._rows(observation)
        if self.view.scalar:
            actions, labels = np.asarray(actions)[np.newaxis], np.asarray([labels])
        return self._update(rows, np.asarray(actions, np.int64), np.asarray(labels, np.float64))

    def recommend(self, observation: Observation) -> Any:
        """Name the candidate believed best in every row, int64 [N] (an integer in a scalar world)."""
        arms = self._recommend(self._rows(observation))
        return int(arms[0]) if self.view.scalar else arms

    @abstractmethod
    def _act(self, observation: Observation) -> NDArray[np.int64]: ...

    @abstractmethod
    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics: ...

    @abstractmethod
    def _recommend(self, observation: Observation) -> NDArray[np.int64]: ...

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything the agent learned or drew, as nested dicts of plain values and arrays."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict` of an agent made with the same settings."""

    def _rows(self, observation: Observation) -> Observation:
        if not self.view.scalar:
            return observation
        return _SingleRow(observation)


class _SingleRow(Mapping[str, Any]):
    """Gives a scalar observation its row axis back, value by value, so that lazy values stay lazy."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    def __getitem__(self, key: str) -> Any:
        value = self._observation[key]
        if isinstance(value, str):
            return np.array([value], dtype=object)
        return np.asarray(value)[np.newaxis]

    def __iter__(self) -> Any:
        return iter(self._observation)

    def __len__(self) -> int:
        return len(self._observation)


# The registry ---------------------------------------------------------------------------------------------------------


class SettingsReader:
    """Hands out an agent's settings to the parts that declare them, and refuses what nobody read.

    Args:
        owner: The agent's name, for messages.
        values: The settings as given.
    """

    def __init__(self, owner: str, values: Mapping[str, Any]) -> None:
        self._owner = owner
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, kind: type[Settings], **defaults: Any) -> Settings:
        """Make a settings dataclass from the values that carry its fields' names.

        Args:
            kind: A frozen dataclass that validates itself.
            **defaults: The agent's own defaults where they differ from the dataclass's.

        Raises:
            ValueError: Another part has a setting of the same name.
        """
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        shared = sorted(set(names) & set(self._known))
        if shared:  # whoever came first would take the value, and the other keep its default unnoticed
            raise ValueError(f"two parts of agent {self._owner!r} have settings called {', '.join(shared)}")
        self._known += names
        given = {name: self._left.pop(name) for name in names if name in self._left}
        return kind(**(defaults | given))

    def close(self) -> None:
        """Raise `UserError` if a setting was read by no part."""
        for name in self._left:
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(self._known))}."
            raise UserError(f"agent {self._owner!r} reads no setting {name!r} in this world; {hint}")


class Builder(Protocol):
    """Builds an agent; registered under its name."""

    def __call__(self, view: AgentView, seed: int, settings: SettingsReader) -> Agent: ...


_BUILDERS: dict[str, Builder] = {}

B = TypeVar("B", bound=Builder)


def register(name: str) -> Callable[[B], B]:
    """Register the decorated builder as agent `name`.

    Raises:
        UserError: The name is taken.
    """

    def add(builder: B) -> B:
        if name in _BUILDERS and _BUILDERS[name] is not builder:
            raise UserError(f"agent {name!r} is registered already; choose another name")
        _BUILDERS[name] = builder
        return builder

    return add


def names() -> list[str]:
    """Return the names of all registered agents, sorted."""
    return sorted(_BUILDERS)


def make(
    name: str, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | AgentView, seed: int = 0, **settings: Any
) -> Agent:
    """Make an agent for an environment.

    Args:
        name: One of `names()`.
        env: A duelenv environment, scalar or vector, wrapped or not; or its view.
        seed: Root of the agent's own random streams, an integer of at least 0.
        **settings: The method's settings; one that nobody reads is an error.

    Returns:
        The agent. It holds the environment's view, never the environment.

    Raises:
        UserError: An unknown name or setting, or a world that lacks what the agent needs.

    Example:
        >>> import gymnasium, duelenv.agents
        >>> env = gymnasium.make("duelenv/FeatureDuel-v0", num_candidates=4, dim=3, horizon=5)
        >>> agent = duelenv.agents.make("thompson", env, seed=0)
        >>> observation, info = env.reset(seed=0)
        >>> agent.act(observation).shape
        (2,)
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names())}."
        raise UserError(f"agent {name!r} is unknown; {hint}")
    if not isinstance(env, AgentView):
        world = env.unwrapped
        if not isinstance(world, DuelEnv | DuelVectorEnv):
            raise UserError(f"agent {name!r} needs a duelenv environment, got {env}")
        env = world.view()
    reader = SettingsReader(name, settings)
    agent = _BUILDERS[name](env, checks.integer("seed", seed, low=0), reader)
    reader.close()
    return agent


# The composition ------------------------------------------------------------------------------------------------------


class Select(Protocol):
    """A selection rule bound to what it needs.

    It gets the observation and `groups` int64 [N, K], in which candidates with the same text share a number, or None
    where playing a candidate against itself is legal; it returns pairs int64 [N, 2].
    """

    def __call__(self, observation: Observation, groups: NDArray[np.int64] | None) -> Pairs: ...


@dataclasses.dataclass(frozen=True)
class Duels:
    """M labelled duels between candidates of one observation; a row may have several, or none.

    Attributes:
        rows: Row of the observation, int64 [M].
        pairs: The two candidates, int64 [M, 2].
        labels: float64 [M] in [0, 1], or NaN where there is no label.
    """

    rows: NDArray[np.int64]
    pairs: Pairs
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def labelled(self) -> Duels:
        """Return the duels that have a label."""
        kept = ~np.isnan(self.labels)
        return Duels(self.rows[kept], self.pairs[kept], self.labels[kept])


class Learner(Protocol):
    """Moves the policy by the labels of a round."""

    gradient_steps: int

    def update(self, observation: Observation, duels: Duels) -> Metrics:
        """Take gradient steps on the labelled duels; NaN labels do not count."""
        ...

    def implicit_reward(self, observation: Observation) -> NDArray[np.float32]:
        """Return the policy's own estimate of each candidate's utility, [N, K]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Imagine(Protocol):
    """Labels duels of the round without the oracle (mixed preference learning, SEA section 2).

    It gets the observation, the groups, the round's duels as the oracle left them, and which rows did not ask (a row
    that still waits for its label has asked); it returns duels with labels of its own. They go to the learner only,
    marked as the model's; they are no queries.
    """

    def __call__(
        self, observation: Observation, groups: NDArray[np.int64] | None, duels: Duels, unasked: NDArray[np.bool_]
    ) -> Duels: ...


class Stateful(Protocol):
    """Anything whose state belongs into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> None: ...


class ComposedAgent(Agent):
    """Joins a belief, a selection rule and a learner.

    Args:
        view: What the agent may know of its environment.
        select: The selection rule.
        belief: What is known of the utility; learns from every label. None where only the policy learns.
        learner: What moves the policy, in worlds with one.
        imagine: Labels further pairs for the learner.
        ask: In selective worlds, which rows ask for a label, bool [N]; None asks in all.
        streams: Random streams and other state of the rules, by name, for checkpoints.
    """

    def __init__(
        self,
        view: AgentView,
        *,
        select: Select,
        belief: Belief | None = None,
        learner: Learner | None = None,
        imagine: Imagine | None = None,
        ask: Callable[[], NDArray[np.bool_]] | None = None,
        streams: Mapping[str, Stateful] | None = None,
    ) -> None:
        super().__init__(view)
        if belief is None and learner is None:
            raise ValueError("an agent needs a belief or a learner to learn anything")
        self.belief = belief
        self.learner = learner
        self._select = select
        self._imagine = imagine
        self._ask = ask
        self._streams = dict(streams or {})

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        pairs = self._select(observation, self._groups(observation))
        if not self.view.selective:
            return pairs
        asked = np.ones(len(pairs), np.bool_) if self._ask is None else self._ask()
        return np.column_stack([pairs, asked.astype(np.int64)])

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        pairs = actions[:, :2]
        metrics: Metrics = {}
        if self.belief is not None:
            features, rows = observation["features"], np.arange(len(pairs))
            metrics |= self.belief.update(features[rows, pairs[:, 0]], features[rows, pairs[:, 1]], labels)
        if self.learner is not None:
            duels = Duels(np.arange(len(pairs)), pairs, labels)
            metrics |= self.learner.update(observation, duels)
            if self._imagine is not None:
                unasked = actions[:, 2] == 0 if self.view.selective else np.zeros(len(pairs), np.bool_)
                imagined = self._imagine(observation, self._groups(observation), duels, unasked)
                figures = self.learner.update(observation, imagined)
                metrics |= {f"model_{name}": value for name, value in figures.items()}
                metrics["model_labels"] = len(imagined)
            self.gradient_steps = self.learner.gradient_steps
        return metrics

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        if self.belief is not None:
            return self.belief.mean(observation["features"]).argmax(axis=1)
        assert self.learner is not None
        return self.learner.implicit_reward(observation).argmax(axis=1)

    def _groups(self, observation: Observation) -> NDArray[np.int64] | None:
        """Number the candidates by text where a policy is trained: a pair of equal texts would waste its label."""
        if self.view.policy is None:
            return None
        responses = observation["responses"]
        equal = responses[:, :, np.newaxis] == responses[:, np.newaxis, :]
        return equal.argmax(axis=2)  # the index of the first candidate with this text

    def state_dict(self) -> dict[str, Any]:
        parts = self._parts()
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        if self.learner is not None:
            self.gradient_steps = self.learner.gradient_steps

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = dict(self._streams)
        if self.belief is not None:
            parts["belief"] = self.belief
        if self.learner is not None:
            parts["learner"] = self.learner
        return parts
