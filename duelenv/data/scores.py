"""Recorded scores as utilities: numbers as they are, probabilities as logits; not for labels of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from duelenv.data.tables import Table
from duelenv.ground.checks import number, one_of
from duelenv.ground.errors import UserError

Transform = Literal["auto", "identity", "logit"]
TRANSFORMS = ("auto", "identity", "logit")

LOGIT_TEMPERATURE = 3.0
"""Default divisor of logits: model judges give probabilities next to 0 and 1, and duels answered by those would leave
nothing to chance."""


def utilities(
    table: Table, name: str, *, transform: Transform, clip: float, temperature: float | None
) -> NDArray[np.float64]:
    """Return the utility of every row of a table, float64 [rows], from the scores in column `name`.

    The settings are those of `duelenv.data.load_responses`.

    Raises:
        UserError: A score is not a finite number, or not a probability where one is needed; a setting out of its range.
    """
    one_of("transform", transform, TRANSFORMS)
    if temperature is not None:
        number("temperature", temperature, above=0.0)
    number("clip", clip, above=0.0, below=0.5)
    values = numbers(table, name)
    outside = (values < 0) | (values > 1)
    if transform == "auto":
        transform = "logit" if _says_probability(name) and not outside.any() else "identity"
    if transform == "identity":
        return values / (temperature or 1.0)
    if outside.any():
        row = int(outside.argmax())
        raise UserError(
            f"{table.place(row)} has {name} = {values[row]:g}, expected a probability in [0, 1]; "
            "use transform='identity' for scores that are utilities"
        )
    probability = np.clip(values, clip, 1.0 - clip)
    return np.log(probability / (1.0 - probability)) / (temperature or LOGIT_TEMPERATURE)


def numbers(table: Table, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, float64 [rows]; text that spells a number counts as one, true as 1, false as 0.

    Raises:
        UserError: A value is not a finite number.
    """
    values: Sequence[Any] = table[name]
    result = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            result[row] = value.strip().lower() == "true" if isinstance(value, str) and is_flag(value) else value
        except (TypeError, ValueError, OverflowError):
            result[row] = math.nan
        if not math.isfinite(result[row]):
            raise UserError(
                f"{table.place(row)} has {name} = {value!r}, expected a finite number; fill it in or remove the row"
            )
    return result


def is_flag(value: object) -> bool:
    """Tell whether a cell says true or false."""
    return str(value).strip().lower() in ("true", "false")


def _says_probability(name: str) -> bool:
    lowered = name.lower()
    return lowered.startswith("p_") or any(part in lowered for part in ("prob", "win_rate", "winrate"))
