"""Where else the figures of a run go while it is played: TensorBoard, Weights & Biases, MLflow, or a tracker of yours.

The run's own records are what counts. A tracker shows them elsewhere, cell by cell, and no part of a run's identity
says which there are.
"""

from duelenv.experiments.trackers.base import TRACKERS, TrackedCell, Tracker, make, names, register
from duelenv.experiments.trackers.following import Following, check_trackers

__all__ = ["TRACKERS", "Following", "TrackedCell", "Tracker", "check_trackers", "make", "names", "register"]
