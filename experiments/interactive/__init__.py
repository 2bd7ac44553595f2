"""Runs from Python: `run` and `open`, and the `Run` that they return, whose tables are Arrow or pandas.

`duelenv.experiments.run` and `duelenv.experiments.open` are these.
"""

from duelenv.experiments.interactive.run import Run
from duelenv.experiments.interactive.starting import open, run

__all__ = ["Run", "open", "run"]
