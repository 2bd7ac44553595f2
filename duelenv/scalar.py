"""The scalar form of every world: row 0 of its vector form with one row; nothing of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from duelenv.core import AgentView, Observation, Recommender
from duelenv.ground.calls import check_made
from duelenv.ground.errors import UserError
from duelenv.observation import LazyObservation
from duelenv.rendering import RENDER_METADATA
from duelenv.vector import DuelVectorEnv


class DuelEnv(gymnasium.Env[Any, Any]):
    """The scalar form of a world: row 0 of its vector form with N = 1.

    Args:
        vector: The vector form, with one row.

    Raises:
        UserError: It has more rows.
    """

    metadata: dict[str, Any] = {**RENDER_METADATA}  # noqa: RUF012 (declared so by Gymnasium)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        check_made(cls, cls, lambda made: made.__name__, refuse_rows)

    def __init__(self, vector: DuelVectorEnv) -> None:
        if vector.num_envs != 1:
            raise UserError(f"the scalar form shows one row, got an environment of {vector.num_envs}; make num_envs=1")
        self.vector = vector
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.render_mode = vector.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see `DuelVectorEnv.reset`."""
        observation, info = self.vector.reset(seed=seed, options=options)
        self._np_random, self._np_random_seed = self.vector.np_random, self.vector.np_random_seed
        row_info = {"queries": int(info["queries"][0]), "late": info["late"], "pending": bool(info["pending"][0])}
        return first_row(observation), row_info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Let one pair duel; see `DuelVectorEnv.step`."""
        observation, labels, terminated, truncated, info = self.vector.step(np.asarray(action)[np.newaxis])
        row_info: dict[str, Any] = {
            "regret": {name: float(value[0]) for name, value in info["regret"].items()},
            "margin": float(info["margin"][0]),
            "certainty": float(info["certainty"][0]),
            "queries": int(info["queries"][0]),
            "pending": bool(info["pending"][0]),
        }
        # The rest has no row axis, but for what stages say of each replicate.
        row_info = {name: _only(value) for name, value in info.items()} | row_info
        row = first_row(observation)
        return row, float(labels[0]), bool(terminated[0]), bool(truncated[0]), row_info

    def render(self) -> str | None:
        """Return the last duel as text; see `DuelVectorEnv.render`."""
        texts = self.vector.render()
        return None if texts is None else texts[0]

    def view(self) -> AgentView:
        """Return what an agent may know of this environment."""
        return replace(self.vector.view(), scalar=True)

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, float]:
        """Judge an agent made for this scalar world; see `DuelVectorEnv.evaluate`."""
        metrics = self.vector.evaluate(_RowOfOne(agent), split)
        return {name: float(value[0]) for name, value in metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """See `DuelVectorEnv.state_dict`."""
        return self.vector.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """See `DuelVectorEnv.load_state_dict`."""
        return first_row(self.vector.load_state_dict(state))


def refuse_rows(settings: Mapping[str, Any]) -> None:
    """Refuse `num_envs` among the settings of a scalar form.

    Raises:
        UserError: It is there.
    """
    if "num_envs" in settings:
        rows = settings["num_envs"]
        raise UserError(
            f"num_envs is {rows!r}, but the scalar form of a world shows one row: leave num_envs out, or make the "
            f"vector form with gymnasium.make_vec(ID, num_envs={rows!r})"
        )


def _only(value: Any) -> Any:
    """Return the one entry of an array as a plain number, and anything else as it is."""
    return value[0].item() if isinstance(value, np.ndarray) else value


class _RowOfOne:
    """Gives a scalar agent to a vector world of one row, which may judge it on several contexts at once."""

    def __init__(self, agent: Recommender) -> None:
        self._agent = agent

    def recommend(self, observation: Observation) -> NDArray[np.int64]:
        rows = range(len(observation["features"]))
        return np.array([self._agent.recommend(row_of(observation, row)) for row in rows])

    def believed(self, observation: Observation, num_samples: int) -> NDArray[Any] | None:
        """Pass on, as it is: rows are asked about, whatever form the agent plays."""
        believed = getattr(self._agent, "believed", None)
        drawn: NDArray[Any] | None = None if believed is None else believed(observation, num_samples)
        return drawn


def first_row(observation: Any) -> Any:
    """Return row 0 of a vector observation, as lazily as it came."""
    return row_of(observation, 0)


def row_of(observation: Any, row: int) -> Any:
    """Return one row of a vector observation, as lazily as it came."""
    if isinstance(observation, LazyObservation):
        return LazyObservation({key: _lazily(observation, key, row) for key in observation})
    return {key: value[row] for key, value in observation.items()}


def _lazily(observation: LazyObservation, key: str, row: int) -> Any:
    return lambda: observation[key][row]
