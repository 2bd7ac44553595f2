"""`PoolDuel`: recorded prompts with recorded responses, and the references that agents are held against there."""

from duelenv.worlds.pool_duel.world import PoolDuelEnv, PoolDuelVectorEnv

__all__ = ["PoolDuelEnv", "PoolDuelVectorEnv"]
