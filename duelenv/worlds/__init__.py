"""The four worlds and one's own: their ids, and where Gymnasium finds their scalar and vector forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gymnasium

from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

if TYPE_CHECKING:
    from duelenv.vector import DuelVectorEnv

__all__ = ["WORLDS", "register_world", "register_worlds"]

World = TypeVar("World", bound="type[DuelVectorEnv]")

#: The shipped ones: where both forms lie, but for "Env" and "VectorEnv".
_SHIPPED: Final = {
    "duelenv/MatrixDuel-v0": "duelenv.worlds.matrix_duel:MatrixDuel",
    "duelenv/FeatureDuel-v0": "duelenv.worlds.feature_duel:FeatureDuel",
    "duelenv/PoolDuel-v0": "duelenv.worlds.pool_duel:PoolDuel",
    "duelenv/AlignmentDuel-v0": "duelenv.worlds.alignment_duel:AlignmentDuel",
}

WORLDS: Registry[type[DuelVectorEnv]] = Registry(
    "world", {world: f"{stem}VectorEnv" for world, stem in _SHIPPED.items()}
)
"""The vector form of each world by its id. Those that were registered with Gymnasium alone work as well."""


def register_worlds() -> None:
    """Register the shipped worlds with Gymnasium; a second call changes nothing."""
    for world, stem in _SHIPPED.items():
        if world not in gymnasium.registry:
            gymnasium.register(world, entry_point=f"{stem}Env", vector_entry_point=f"{stem}VectorEnv")


def register_world(world: str, *, scalar: Callable[..., Any] | None = None) -> Callable[[World], World]:
    """Register a world of one's own, with Gymnasium too, as a decorator of its vector form.

    Args:
        world: Its id, such as "mine/ShyDuel-v0".
        scalar: Makes its scalar form; if absent, that is row 0 of the vector form.

    Raises:
        UserError: Another world has the id, or it is none.
    """

    def add(vector: World) -> World:
        def row(**settings: Any) -> Any:
            from duelenv.scalar import DuelEnv, refuse_rows

            refuse_rows(settings)
            return DuelEnv(vector(num_envs=1, **settings))

        try:
            gymnasium.envs.registration.parse_env_id(world)
        except gymnasium.error.Error as error:
            raise UserError(f"world {world!r} is no id of Gymnasium, expected one such as 'mine/ShyDuel-v0'") from error
        if world in gymnasium.registry and world not in WORLDS:
            raise UserError(f"world {world!r} is registered already; choose another name")
        WORLDS.register(world, vector)
        gymnasium.registry.pop(world, None)  # its file was changed and is loaded again
        many: Any = vector  # which takes `num_envs` by keyword, as Gymnasium gives it
        gymnasium.register(world, entry_point=scalar or row, vector_entry_point=many)
        return vector

    return add
