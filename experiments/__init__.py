"""Experiments: configs, runs that can be interrupted, results, figures, reports, and the `duelenv` command.

`run` plays a run and returns its tables and figures, `open` does that of a run folder. Not for environments, oracles or
agents. Importing this package loads nothing but NumPy and Gymnasium.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duelenv.experiments.interactive import Run, open, run

__all__ = ["Run", "open", "run"]


def __getattr__(name: str) -> Any:
    """Load what plays and shows runs when it is first asked for."""
    if name in __all__:
        return getattr(import_module("duelenv.experiments.interactive"), name)
    raise AttributeError(f"module 'duelenv.experiments' has no attribute {name!r}")
