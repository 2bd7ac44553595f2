"""`AlignmentDuel`: candidates that a live policy model draws, what their regret is measured against, and judging."""

from duelenv.worlds.alignment_duel.world import AlignmentDuelEnv, AlignmentDuelVectorEnv

__all__ = ["AlignmentDuelEnv", "AlignmentDuelVectorEnv"]
