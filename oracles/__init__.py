"""Who answers "which of the two is better": utilities, matrices, reward models, records, wrappers.

Not for drawing labels, counting queries or anything an agent learns. Importing this package loads
neither torch nor transformers.
"""

from duelenv.ground.errors import UserError
from duelenv.oracles.base import (
    Oracle,
    Preferences,
    UtilityOracle,
    ask,
    make,
    names,
    register,
    utility_of,
)
from duelenv.oracles.wrappers import Noise, PositionBias, Temperature, TieBand

__all__ = [
    "Noise",
    "Oracle",
    "PositionBias",
    "Preferences",
    "Temperature",
    "TieBand",
    "UserError",
    "UtilityOracle",
    "ask",
    "make",
    "names",
    "register",
    "utility_of",
]
