"""Servers of reward models by their documentation, of `duelenv bench oracles --faults`."""

from duelenv.experiments.bench.reward_stub import documented, score, squashed

__all__ = ["documented", "score", "squashed"]
