"""Who answers "which of the two is better": utilities, matrices, reward models, records, sources, wrappers.

Not for drawing labels, counting queries or anything an agent learns. Importing this package loads
neither torch nor transformers.
"""

from duelenv.ground.errors import UserError
from duelenv.oracles.base import (
    Oracle,
    Preferences,
    Unanswered,
    UtilityOracle,
    ask,
    make,
    names,
    register,
    takes_home,
    utility_of,
)
from duelenv.oracles.sources import Answer, Request, Source, answers_later
from duelenv.oracles.wrappers import Noise, PositionBias, Temperature, TieBand

__all__ = [
    "Answer",
    "Noise",
    "Oracle",
    "PositionBias",
    "Preferences",
    "Request",
    "Source",
    "Temperature",
    "TieBand",
    "Unanswered",
    "UserError",
    "UtilityOracle",
    "answers_later",
    "ask",
    "make",
    "names",
    "register",
    "takes_home",
    "utility_of",
]
