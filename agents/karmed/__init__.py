"""The K-armed dueling bandits: fixed arms, no features, one file per algorithm; importing them registers them."""

from duelenv.agents.karmed import (
    beat_the_mean,
    ccb,
    dts,
    interleaved_filter,
    mergerucb,
    multisbm,
    random,
    rmed,
    rucb,
    savage,
    scb,
    sparring,
    versatile,
    winner_stays,
)

__all__ = [
    "beat_the_mean",
    "ccb",
    "dts",
    "interleaved_filter",
    "mergerucb",
    "multisbm",
    "random",
    "rmed",
    "rucb",
    "savage",
    "scb",
    "sparring",
    "versatile",
    "winner_stays",
]
