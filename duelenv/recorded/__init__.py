"""Replay of recorded preferences: any table of pairs, or what a run asked and was told, as an oracle.

For data that was labelled before; nobody is asked. Scores of single responses are `duelenv.oracles.recorded`.
"""

from duelenv.recorded.nearest import NearestPairs
from duelenv.recorded.oracle import Recorded, Tally, load_recorded
from duelenv.recorded.reading import read_record

__all__ = ["NearestPairs", "Recorded", "Tally", "load_recorded", "read_record"]
