"""Parts that a session registered itself, in a notebook or a script, which worker processes know nothing of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from duelenv.experiments.config.kinds import KINDS, Kind
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import NamedConfig
from duelenv.ground.errors import UserError

__all__ = ["check_known_to_workers"]

#: Backends whose workers begin with an empty memory.
_ELSEWHERE: Final = ("loky", "dask", "ray", "slurm")


def check_known_to_workers(config: RunConfig) -> None:
    """Refuse parts that this session registered itself, where other processes play the cells.

    With `modules` nothing is refused: a script may name itself there, so that the workers register what it did.

    Raises:
        UserError: Its worker processes would not know one of them.
    """
    backend = config.backend.name
    if backend not in _ELSEWHERE or config.modules:
        return
    for kind, name in _named_parts(config):
        registry = kind.registry
        if name in registry and getattr(registry[name], "__module__", None) == "__main__":
            raise UserError(
                f"{registry.kind} {name!r} is registered in this session alone, which the workers of backend "
                f"{backend!r} know nothing of: write it into a file that 'modules' names, or set backend='threading'"
            )


def _named_parts(config: RunConfig) -> Iterator[tuple[Kind, str]]:
    """Find the parts that a config names, each with its kind."""
    single: dict[str, str] = {"env": config.env.id}
    single |= {key: named.name for key, named in vars(config).items() if isinstance(named, NamedConfig)}
    for kind in KINDS:
        names: list[Any] = [single.get(kind.where)]
        if kind.where == "agents":
            names = [agent.name for agent in config.agents]
        elif kind.agents_key:
            names = [agent.settings.get(kind.agents_key) for agent in config.agents]
        elif kind.where == "oracle":
            names.append(single.get("evaluation_oracle"))
        elif kind.where == "trackers":
            names = [tracker.name for tracker in config.trackers]
        yield from ((kind, name) for name in names if isinstance(name, str))
