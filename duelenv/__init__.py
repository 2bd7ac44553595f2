"""Language-model alignment as a contextual dueling bandit, in Gymnasium's terms.

Importing this package registers the worlds with Gymnasium and loads nothing heavy; torch and transformers load when a
policy model is used.
"""

from importlib import import_module
from typing import Any

from duelenv.core import AgentView
from duelenv.evaluation import evaluate
from duelenv.ground.errors import UserError
from duelenv.scalar import DuelEnv
from duelenv.vector import DuelVectorEnv
from duelenv.worlds import WORLDS, register_world, register_worlds

register_worlds()


def __getattr__(name: str) -> Any:
    """Load `duelenv.agents` and the like when they are first used, so that `import duelenv` alone gives them all.

    `__version__` is that of the installed package, looked up when it is asked for.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("duelenv")
    if name in ("agents", "experiments", "oracles", "policies"):
        return import_module(f"duelenv.{name}")
    raise AttributeError(f"module 'duelenv' has no attribute {name!r}")


__all__ = ["WORLDS", "AgentView", "DuelEnv", "DuelVectorEnv", "UserError", "evaluate", "register_world"]
