"""Who is in a crowd: annotators written out one by one, or drawn from ranges. Nobody is asked anything here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream
from duelenv.oracles.crowds.annotator import Annotator

_SETTINGS: Final = tuple(item.name for item in dataclasses.fields(Annotator))


def population(annotators: object, seed: int, utilities: Sequence[str]) -> tuple[Annotator, ...]:
    """Make the annotators that a setting describes.

    Args:
        annotators: A number of annotators, or a list of groups: mappings of settings of `Annotator` and `count` (1).
            A number may be given as `[low, high]`, from which each annotator of the group draws evenly. Without
            `weights`, all utilities count 1.
        seed: Of the draws. Each setting of each annotator has a draw of its own: annotators that are added change none
            of those before them.
        utilities: Names of the crowd's utilities.

    Raises:
        UserError: There is nobody, two have one name, or a setting is unknown or refused.
    """
    if isinstance(annotators, int) and not isinstance(annotators, bool):
        annotators = [{"count": annotators}]
    if not isinstance(annotators, list | tuple) or not annotators:
        raise UserError(
            f"annotators is {annotators!r}, expected how many, or a list of mappings with their settings, such as "
            "[{count: 5, beta: [0.5, 2.0]}]"
        )
    seed = checks.integer("seed", seed, low=0)
    people: list[Annotator] = []
    for number, raw in enumerate(annotators):
        group = checks.mapping(f"annotators[{number}]", raw)
        checks.refuse_unknown(f"annotators[{number}]", group, ("count", *_SETTINGS))
        count = checks.integer("count", group.pop("count", 1), low=1)
        for member in range(count):
            people.append(_drawn(group, seed, len(people), utilities, alone=count == 1, member=member))
    names = [one.name for one in people]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two annotators are called {name!r}; give each a name of their own, or none")
    return tuple(people)


def _drawn(
    group: Mapping[str, Any], seed: int, row: int, utilities: Sequence[str], *, alone: bool, member: int
) -> Annotator:
    settings = {key: _value(key, value, seed, row) for key, value in group.items() if key not in ("name", "weights")}
    weights = checks.mapping("weights", group.get("weights", dict.fromkeys(utilities, 1.0)))
    for name in weights:
        if name not in utilities:
            raise UserError(f"weights names {name!r}, no utility of the crowd: {checks.choices(name, utilities)}")
    settings["weights"] = {
        name: _value(f"weights.{name}", weights[name], seed, row) for name in utilities if name in weights
    }
    name = group.get("name", f"annotator-{row + 1}" if alone else None)
    if name is None or not alone:
        name = f"{name}-{member + 1}" if name is not None else f"annotator-{row + 1}"
    return Annotator(name=name, **settings)


def _value(name: str, value: Any, seed: int, row: int) -> Any:
    """Take a value as it stands, or draw it evenly from `[low, high]`."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) != 2:
        raise UserError(f"{name} is {value!r}, expected a number or [low, high]; change {name}")
    low = checks.number(f"{name} (low)", value[0])
    high = checks.number(f"{name} (high)", value[1], low=low)
    return low + (high - low) * float(stream(seed, f"crowd/{name}", row).random())
