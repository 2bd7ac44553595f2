"""Contextual dueling bandits over features: one file per algorithm, on one estimate and one kind of widths."""

from duelenv.agents.contextual import (  # registers them
    apl,
    colstim,
    deltaucb,
    drts,
    fgts,
    ids,
    infomax,
    maxfirstucb,
    maxinp,
    maxminlcb,
    maxpairucb,
    neural,
    rcdb,
    rcdp,
    vacdb,
)

__all__ = [
    "apl",
    "colstim",
    "deltaucb",
    "drts",
    "fgts",
    "ids",
    "infomax",
    "maxfirstucb",
    "maxinp",
    "maxminlcb",
    "maxpairucb",
    "neural",
    "rcdb",
    "rcdp",
    "vacdb",
]
