"""What an agent is, and the registry of names; no rule of any particular method.

A method is a function that builds an agent from an `AgentView` and its settings, most often as a composition
(`duelenv.agents.composed`).
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.divergence import Diverged
from duelenv.agents.pieces import Piece, late_pieces
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.labels import Arrivals
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv

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
        belief: What it knows of the candidates' utility; None where it keeps no such thing.
    """

    gradient_steps: int = 0
    belief: Belief | None = None
    _recipe: _Recipe | None = None  # how `make` made it

    def __init__(self, view: AgentView) -> None:
        self.view = view
        self._heard = -1  # number of the last round that `update` was told of
        self._everybody = np.full(view.num_envs, view.batch)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Choose a pair in every row.

        Returns:
            int64 [N, 2], or [N, 3] with the ask flag in a selective world ([2] or [3] in a scalar one).
        """
        pairs = self._act(self._rows(observation))
        return pairs[0] if self.view.scalar else pairs

    def update(self, observation: Observation, actions: Any, labels: Any, late: Arrivals | None = None) -> Metrics:
        """Learn from the labels of `actions` on `observation`, and from earlier ones that arrived with them.

        Args:
            observation: What was shown.
            actions: What was played, [N, 2] or [N, 3].
            labels: [N] in [0, 1]; rows whose label is NaN teach nothing.
            late: `info["late"]` of the same step. May be left out where no label can come late.

        Returns:
            Figures about the update, by plain names.

        Raises:
            UserError: `late` is missing where labels can come late, and would be lost; or the arrays do not fit.
            Diverged: A gradient step is not finite. It was not taken: weights and optimiser are as before it, its
                labels wait on, and `state_dict` is a state to go on from, with a smaller learning rate for example.
        """
        if late is not None and not isinstance(late, Arrivals):
            raise UserError(f"update got {str(late)[:60]!r} as late labels, expected info['late'] of the same step")
        if late is None and self.view.late:
            raise UserError(
                "update got no late labels, but in this environment labels can come later than their round and would "
                'be lost; call update(observation, actions, labels, info["late"])'
            )
        rows = self._rows(observation)
        if self.view.scalar:
            actions, labels = np.asarray(actions)[np.newaxis], [labels]
        actions, labels = self._checked_duels(actions, labels)
        self._heard = self._heard + 1 if late is None else late.now
        earlier = late_pieces(late, rows, self.view.num_envs) if late is not None and len(late) else []
        try:
            return self._learn_pieces([*earlier, self._current_piece(rows, actions, labels)])
        except Diverged as error:
            error.round = self._heard
            raise

    def warm_up(self, observation: Observation, actions: Any, labels: Any) -> Metrics:
        """Learn from labels that were given elsewhere, before the first round is played.

        They count as no query and as no round. Nothing is imagined beside them.

        Args:
            observation: The texts that were compared, as `show` of a world of texts gives them.
            actions: Which of them each label compares, [N, 2] or [N, 3].
            labels: [N] in [0, 1]; rows whose label is NaN teach nothing.

        Returns:
            Figures about the update, by plain names.

        Raises:
            UserError: The arrays do not fit, or rounds were played already.
        """
        if self._heard >= 0:
            raise UserError(
                f"warm_up was called after round {self._heard}, but labels from elsewhere come before the first round; "
                "call it on a new agent"
            )
        rows = self._rows(observation)
        actions, labels = self._checked_duels(actions, labels)
        return self._learn_given([self._current_piece(rows, actions, labels)])

    def _learn_given(self, pieces: Sequence[Piece]) -> Metrics:
        """Learn from what somebody said, and from nothing else; by default as `_learn_pieces`."""
        return self._learn_pieces(pieces)

    def _current_piece(self, observation: Observation, actions: Pairs, labels: Labels) -> Piece:
        asked = self._everybody
        if self.view.selective:
            asked = np.repeat(actions[:, 2].reshape(-1, self.view.batch).sum(axis=1), self.view.batch)
        return Piece(observation, actions, labels, np.full(len(labels), self._heard), asked)

    def _checked_duels(self, actions: Any, labels: Any) -> tuple[Pairs, Labels]:
        """Return what was played and what came of it as arrays."""
        shape = (self.view.num_envs, 3 if self.view.selective else 2)
        if type(labels) is not np.ndarray or labels.dtype != np.float64:
            labels = checks.real_array(
                labels, lambda what: UserError(f"update got labels {what}, expected {shape[0]} numbers; pass step's")
            )
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu":
            raise UserError(f"update got actions of {actions.dtype}, expected integers; pass what act returned")
        if actions.shape != shape or labels.shape != shape[:1]:
            raise UserError(
                f"update got actions of shape {actions.shape} and labels of shape {labels.shape}, expected {shape} and "
                f"{shape[:1]}; pass what act and step returned"
            )
        if self.view.selective and not np.isnan(labels[actions[:, 2] == 0]).all():
            raise UserError("update got a label in a row that was not asked; pass what act and step returned")
        if ((labels < 0.0) | (labels > 1.0)).any():
            raise UserError(
                f"update got labels from {np.nanmin(labels):g} to {np.nanmax(labels):g}, expected values in [0, 1] or "
                "NaN; pass what step returned"
            )
        arms = actions[:, :2]
        if arms.min() < 0 or arms.max() >= self.view.num_candidates:
            raise UserError(
                f"update got candidates from {arms.min()} to {arms.max()}, expected indices below "
                f"{self.view.num_candidates}; pass what act returned"
            )
        return actions.astype(np.int64, copy=False), labels

    def _learn_pieces(self, pieces: Sequence[Piece]) -> Metrics:
        """Learn from pieces, the current round's last; by default from one after the other."""
        return merged([self._update(piece.observation, piece.actions, piece.labels) for piece in pieces])

    def recommend(self, observation: Observation) -> Any:
        """Name the candidate believed best in every row, int64 [N] (an integer in a scalar world)."""
        arms = self._recommend(self._rows(observation))
        return int(arms[0]) if self.view.scalar else arms

    def believed(self, observation: Observation, num_samples: int) -> NDArray[Any] | None:
        """Return joint posterior draws of the candidates' utility, [S, M, K], for an observation of any M rows.

        None where the agent holds no belief. Nothing changes: what is drawn later is what would have been drawn anyway.
        """
        if self.belief is None:
            return None
        features, rows = observation["features"], self.view.num_envs
        count, asked = len(features), copy.deepcopy(self.belief)  # whose streams go on by themselves
        drawn = [
            asked.sample(features[np.arange(start, start + rows) % count], num_samples)
            for start in range(0, count, rows)
        ]
        return np.concatenate(drawn, axis=1)[:, :count]

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

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle an agent as what it is: made by its recipe, in its state.

        Its rules close over their parts, and a copied rule would go on with the parts of the original.
        """
        if self._recipe is None:
            return super().__reduce_ex__(protocol)
        return _remake, (self._recipe, self.state_dict())

    def _rows(self, observation: Observation) -> Observation:
        if not self.view.scalar:
            return observation
        return _SingleRow(observation)


def merged(parts: Sequence[Metrics]) -> Metrics:
    """Return the figures of several pieces as one: `labels` add up, others are means over labels (or over pieces)."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    whole: Metrics = {}
    for name in names:
        known = [part for part in parts if name in part and not np.isnan(part[name])]
        weights = [part.get("labels", 1.0) for part in known]
        if name == "labels":
            whole[name] = float(sum(weights))
        elif sum(weights):
            whole[name] = float(np.average([part[name] for part in known], weights=weights))
        else:
            whole[name] = float("nan")
    return whole


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
        self._preferred: dict[str, Any] = {}
        self._known: list[str] = []

    def prefer(self, **defaults: Any) -> None:
        """State an agent's own defaults for whatever part will read them; one that nobody reads is no mistake.

        Of a mapping, such as `bonus_settings`, what is given replaces the entries that it names, and the others stay.
        """
        self._preferred |= defaults

    def given(self, name: str) -> bool:
        """Tell whether the caller gave a setting that no part has read yet: for defaults that depend on others."""
        return name in self._left

    def take(self, kind: type[Settings], /, *, yields: Sequence[str] = (), **defaults: Any) -> Settings:
        """Make a settings dataclass from the values that carry its fields' names.

        Args:
            kind: A frozen dataclass that validates itself.
            yields: Fields that keep their default where a part that came first has a setting of that name.
            **defaults: The caller's own defaults where they differ from the dataclass's; `prefer` outdoes them.

        Raises:
            ValueError: Another part has a setting of the same name.
        """
        fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        names = [name for name in fields if name not in yields or name not in self._known]
        shared = sorted(set(names) & set(self._known))
        if shared:  # whoever came first would take the value, and the other keep its default unnoticed
            raise ValueError(f"two parts of agent {self._owner!r} have settings called {', '.join(shared)}")
        self._known += names
        given = {name: self._left.pop(name) for name in names if name in self._left}
        preferred = {name: self._preferred[name] for name in names if name in self._preferred}
        for name in given.keys() & preferred.keys():
            if isinstance(given[name], Mapping) and isinstance(preferred[name], Mapping):
                given[name] = {**preferred[name], **given[name]}
        return kind(**(defaults | preferred | given))

    def apart(self, own: Sequence[Mapping[str, Any]]) -> list[SettingsReader]:
        """Make a reader for each of several parts that are alike, which may have settings of one name.

        Each has settings of its own, and beside them whatever is left here: what is given once counts for all that read
        it. `rejoin` makes one reader of them again.
        """
        return [self._beside(values) for values in own]

    def _beside(self, own: Mapping[str, Any]) -> SettingsReader:
        reader = copy.copy(self)
        reader._left, reader._preferred = {**self._left, **own}, dict(self._preferred)
        reader._known = list(self._known)
        return reader

    def rejoin(self, readers: Sequence[SettingsReader], own: Sequence[Mapping[str, Any]]) -> None:
        """Count as read what one of the readers has read.

        Args:
            readers: As `apart` made them.
            own: As it was given to it.

        Raises:
            UserError: A setting of its own that a part did not read.
        """
        for reader, values in zip(readers, own, strict=True):
            for name in values:
                if name in reader:
                    reader._left = {name: reader._left[name]}
                    reader.close()
            self._known += [name for name in reader._known if name not in self._known]
        self._left = {name: value for name, value in self._left.items() if all(name in reader for reader in readers)}

    def __contains__(self, name: str) -> bool:
        """Tell whether a setting was given that no part has read yet."""
        return name in self._left

    def close(self) -> None:
        """Raise `UserError` if a setting was read by no part."""
        for name in self._left:
            raise UserError(
                f"agent {self._owner!r} reads no setting {name!r} in this world: {checks.choices(name, self._known)}"
            )


class Builder(Protocol):
    """Builds an agent; registered under its name."""

    def __call__(self, view: AgentView, seed: int, settings: SettingsReader) -> Agent: ...


AGENTS: Registry[Builder] = Registry("agent")

register = AGENTS.register


def names() -> list[str]:
    """Return the names of all registered agents, sorted."""
    return list(AGENTS.names())


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
    builder = AGENTS[name]
    if not isinstance(env, AgentView):
        world = getattr(env, "unwrapped", None)
        if not isinstance(world, DuelEnv | DuelVectorEnv):
            raise UserError(
                f"agent {name!r} needs a duelenv environment, got {env!r}: pass what gymnasium.make or "
                "gymnasium.make_vec has made"
            )
        env = world.view()
    reader = SettingsReader(name, settings)
    agent = builder(env, checks.integer("seed", seed, low=0), reader)
    reader.close()
    agent._recipe = _Recipe(name, env, seed, settings)
    return agent


class _Recipe(NamedTuple):
    """The arguments of `make`."""

    name: str
    view: AgentView
    seed: int
    settings: dict[str, Any]


def _remake(recipe: _Recipe, state: Mapping[str, Any]) -> Agent:
    agent = make(recipe.name, recipe.view, recipe.seed, **recipe.settings)
    agent.load_state_dict(state)
    return agent
