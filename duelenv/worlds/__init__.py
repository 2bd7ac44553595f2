"""The four worlds: their ids, and where Gymnasium finds their scalar and vector forms."""

import gymnasium

WORLDS = {
    "duelenv/MatrixDuel-v0": "duelenv.worlds.matrix_duel:MatrixDuel",
    "duelenv/FeatureDuel-v0": "duelenv.worlds.feature_duel:FeatureDuel",
    "duelenv/PoolDuel-v0": "duelenv.worlds.pool_duel:PoolDuel",
    "duelenv/AlignmentDuel-v0": "duelenv.worlds.alignment_duel:AlignmentDuel",
}


def register_worlds() -> None:
    """Register every world with Gymnasium; a second call changes nothing."""
    for world, stem in WORLDS.items():
        if world not in gymnasium.registry:
            gymnasium.register(world, entry_point=f"{stem}Env", vector_entry_point=f"{stem}VectorEnv")
